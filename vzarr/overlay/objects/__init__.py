"""Every access to stored objects: files, memory, object stores."""

"""New repos that are made of some versions of another, and copies of instances within one."""

"""The rule by which versions are joined, for values, metadata trees and owner pages; no storage."""

"""The uresnet command."""

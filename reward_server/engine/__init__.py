"""Forward passes."""

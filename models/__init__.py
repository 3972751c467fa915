"""The default model pack (data), how it was made and how good it is."""

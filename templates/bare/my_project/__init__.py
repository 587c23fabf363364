"""The model and the data of this project."""

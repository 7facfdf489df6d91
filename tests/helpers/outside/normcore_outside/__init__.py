"""A scaler and a backend that live outside normcore's own tree."""

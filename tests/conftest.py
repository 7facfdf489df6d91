"""What all tests share: how hypothesis searches."""

from hypothesis import settings

# The same examples in every run; `--hypothesis-profile=thorough` looks for new ones.
settings.register_profile("default", derandomize=True, max_examples=60, deadline=None)
settings.register_profile("thorough", derandomize=False, max_examples=1000, deadline=None)
settings.load_profile("default")

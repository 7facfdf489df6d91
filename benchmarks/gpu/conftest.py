"""Ready the backend before anything is collected; without a device there is nothing to test."""

import common

common.backend()

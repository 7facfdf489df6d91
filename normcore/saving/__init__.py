"""Fitted scalers as files: versioned JSON, written in one step."""

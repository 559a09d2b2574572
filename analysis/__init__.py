"""From measured files to fits, predictions and reports. Never measures, never imports torch."""

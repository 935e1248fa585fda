"""`sft-edge doctor`: looks at what a training needs, and says what to fix. It trains nothing."""

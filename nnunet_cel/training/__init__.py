"""The trainer: slice loading, augmentation, loss, optimizer and schedule."""

"""Converters of public data sets to the raw data format of nnU-Net."""

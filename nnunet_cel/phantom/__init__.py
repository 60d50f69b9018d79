"""Synthetic subjects on real anatomy, for demonstrations and tests without patients.

A phantom is the MNI152 template, deformed at random, with lesions, vessels, a bias
field and noise. It shows that the whole protocol runs and learns. It says nothing
about how well a method works on patients.
"""

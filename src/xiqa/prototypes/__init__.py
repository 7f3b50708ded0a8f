"""Explanations by cases: which training images a network holds to be most like one that it judges."""

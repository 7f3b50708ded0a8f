"""Evaluation by people: blinded cases for readers, one offline form each, and what their answers say."""

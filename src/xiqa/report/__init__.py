"""Pages: findings and tables of a study, and the pages of docs/ that are made from tables (`python -m xiqa.report`)."""

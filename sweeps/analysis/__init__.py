"""From a study to a table, and from the table to conclusions, figures and a page."""

"""How tables and names are written for readers: in reports, notebooks, Markdown and LaTeX."""

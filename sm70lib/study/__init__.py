"""What a study is: its parameters, its steps and their marks, what is kept and what is lent."""

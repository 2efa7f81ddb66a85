"""What a number may say: intervals, tests, verdicts, and the spread over runs."""

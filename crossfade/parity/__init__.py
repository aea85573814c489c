"""Whether two engines answer alike: cases, scorers, and the verdict over their answers. Pure: answers are passed in."""

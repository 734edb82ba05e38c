"""Known bugs of operators, put in one at a time: each must make the tests that guard against it fail."""

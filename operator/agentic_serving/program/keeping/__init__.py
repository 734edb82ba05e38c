"""What the scheduler knows, in pieces that can be kept outside the process and given to another one."""

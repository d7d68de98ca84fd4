"""The commands, one file each: `main(settings, words) -> exit code`."""

"""Running a program from an answer where it can reach nothing: own namespaces, no network, few system calls, limits."""

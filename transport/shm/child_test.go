package shm

func child(role string) int { return 2 }

package main

import (
	"fmt"

	"github.com/shirou/gopsutil/v4/net"
	"github.com/shirou/gopsutil/v4/process"
)

// portOwner names the process that listens on a TCP port, as far as this user may know.
func portOwner(port uint16) string {
	conns, err := net.Connections("tcp")
	if err != nil {
		return "another process"
	}
	for _, c := range conns {
		if c.Status != "LISTEN" || c.Laddr.Port != uint32(port) || c.Pid == 0 {
			continue
		}
		name := ""
		if p, err := process.NewProcess(c.Pid); err == nil {
			name, _ = p.Name()
		}
		return fmt.Sprintf("process %d (%s)", c.Pid, name)
	}
	return "a process of another user"
}

package nodeapi

import (
	"bufio"
	"fmt"
	"net"
	"os"
	"os/exec"
	"strconv"
	"syscall"
	"testing"
	"time"

	"github.com/dora-go/dora/transport/nodewire"
)

// listenOnce answers one frame on one connection and returns the port.
func listenOnce(t *testing.T, reply []byte) string {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		nc, err := ln.Accept()
		if err != nil {
			return
		}
		c := nodewire.NewConn(nc)
		defer c.Close()
		frame, err := c.ReadFrame()
		if err != nil {
			return
		}
		if r, err := nodewire.DecodeRequest(frame.Bytes()); err != nil || r.Kind != nodewire.GetConfig {
			t.Errorf("got %v (%v)", r.Kind, err)
		}
		_ = c.Write(reply)
	}()
	t.Cleanup(func() {
		_ = ln.Close()
		<-done
	})
	_, port, _ := net.SplitHostPort(ln.Addr().String())
	return port
}

// helper is what this test binary does as another process.
func helper(role string) int {
	switch role {
	case "node":
		// A node that never looks at its events, with a child in its group.
		child := exec.Command("sleep", "60")
		if err := child.Start(); err != nil {
			fmt.Println(err)
			return 1
		}
		armGuard()
		fmt.Println(os.Getpid(), child.Process.Pid)
		time.Sleep(time.Minute)
	case "parent":
		// Stands for the process that runs the dataflow.
		exe, _ := os.Executable()
		cmd := exec.Command(exe)
		cmd.Env = append(os.Environ(), "NODEAPI_TEST_ROLE=node", envParentPID+"="+strconv.Itoa(os.Getpid()))
		cmd.Stdout, cmd.Stderr = os.Stdout, os.Stderr
		cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
		if err := cmd.Start(); err != nil {
			fmt.Println(err)
			return 1
		}
		time.Sleep(time.Minute)
	}
	return 0
}

// A node, and what it started, ends when the process that runs its dataflow is killed.
func TestGuardEndsTheNodeWithItsDataflow(t *testing.T) {
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	parent := exec.Command(exe)
	parent.Env = append(os.Environ(), "NODEAPI_TEST_ROLE=parent")
	out, err := parent.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := parent.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() { _ = parent.Process.Kill() }()
	line, err := bufio.NewReader(out).ReadString('\n')
	var node, child int
	if _, serr := fmt.Sscan(line, &node, &child); err != nil || serr != nil {
		t.Fatalf("%q: %v %v", line, err, serr)
	}
	defer func() { _ = syscall.Kill(-node, syscall.SIGKILL) }()
	time.Sleep(50 * time.Millisecond)
	if !alive(node) || !alive(child) {
		t.Fatal("the guard ended a healthy node")
	}
	_ = parent.Process.Kill()
	_ = parent.Wait()
	for deadline := time.Now().Add(2 * time.Second); alive(node) || alive(child); {
		if time.Now().After(deadline) {
			t.Fatalf("2 s after its dataflow's process died: node alive %v, its child alive %v", alive(node), alive(child))
		}
		time.Sleep(5 * time.Millisecond)
	}
}

// alive is false for zombies, which nobody may have collected yet.
func alive(pid int) bool {
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return syscall.Kill(pid, 0) == nil
	}
	for i := len(stat) - 1; i > 0; i-- {
		if stat[i] == ')' {
			return stat[i+2] != 'Z' && stat[i+2] != 'X'
		}
	}
	return false
}

func TestGuardIgnoresWhatIsNoProcess(t *testing.T) {
	for _, text := range []string{"", "abc", "0", "-5", "1"} {
		t.Setenv(envParentPID, text)
		armGuard()
	}
}

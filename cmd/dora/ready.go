package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// readyEnv names the file descriptor on which a background process says that it is ready.
const readyEnv = "DORA_READY_FD"

// readiness is what it says, as one JSON document: nothing, or why it ends.
type readiness struct {
	PID   int    `json:"pid"`
	Error string `json:"error,omitempty"`
}

// readyPipe is the way to whoever started this process in the background; nil if nobody
// waits. It is not handed down to children.
func readyPipe() *os.File {
	fd, err := strconv.Atoi(os.Getenv(readyEnv))
	os.Unsetenv(readyEnv)
	if err != nil || fd < 3 {
		return nil
	}
	syscall.CloseOnExec(fd)
	return os.NewFile(uintptr(fd), "ready")
}

// tellReady says that this process is ready, or why it ends, once.
func tellReady(f *os.File, err error) {
	if f == nil {
		return
	}
	r := readiness{PID: os.Getpid()}
	if err != nil {
		r.Error = err.Error()
	}
	_ = json.NewEncoder(f).Encode(r)
	_ = f.Close()
}

// background starts this program in a session of its own, with its output in a log file
// of the state folder, and waits until it says that it is ready.
func background(ctx context.Context, home, logName string, args ...string) (pid int, err error) {
	self, err := os.Executable()
	if err != nil {
		return 0, err
	}
	log, err := os.OpenFile(filepath.Join(home, logName), os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o600)
	if err != nil {
		return 0, fmt.Errorf("log file: %w", err)
	}
	defer log.Close()
	r, w, err := os.Pipe()
	if err != nil {
		return 0, err
	}
	defer r.Close()
	cmd := exec.Command(self, args...)
	cmd.Dir = "/"
	cmd.Env = append(os.Environ(), "DORA_HOME="+home, readyEnv+"=3")
	cmd.Stdout, cmd.Stderr = log, log
	cmd.ExtraFiles = []*os.File{w}
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	err = cmd.Start()
	w.Close()
	if err != nil {
		return 0, fmt.Errorf("start %s: %w", strings.Join(args, " "), err)
	}
	stop := context.AfterFunc(ctx, func() { _ = r.SetReadDeadline(time.Unix(1, 0)) })
	defer stop()
	raw, err := io.ReadAll(io.LimitReader(r, 1<<20))
	var said readiness
	switch {
	case err != nil:
		return cmd.Process.Pid, fmt.Errorf("`dora %s` (pid %d) does not get ready: %w\n  see %s", strings.Join(args, " "), cmd.Process.Pid, ctx.Err(), log.Name())
	case json.Unmarshal(raw, &said) != nil:
		_ = cmd.Wait()
		return 0, fmt.Errorf("`dora %s` ended at once\n  see %s", strings.Join(args, " "), log.Name())
	case said.Error != "":
		_ = cmd.Wait()
		return 0, errors.New(said.Error)
	}
	_ = cmd.Process.Release()
	return said.PID, nil
}

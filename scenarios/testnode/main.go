// Command testnode is a node whose behaviour is written in its arguments: steps that are
// done one after the other. Scripts of end-to-end tests use it to make nodes that crash,
// hang, send, count and misbehave.
//
//	print=TEXT stderr=TEXT   a line on stdout or stderr
//	argv                     the rest of the arguments as JSON, then end
//	env=NAME                 NAME=value
//	sleep=500ms  hang        wait; wait for ever
//	await=FILE               wait until there is a file
//	burn=64                  hold 64 MiB and use a fifth of a processor, for ever
//	exit=3  kill             end with a code; by SIGKILL
//	deaf                     ignore SIGTERM from here on
//	init                     become a node
//	count                    print the restart count
//	crash-below=2:3          exit with 3 while the restart count is below 2
//	send=out:5:100ms         send 1, 2, ... 5 on out, this far apart (0: for ever)
//	typed                    send arrays of types that are not declared (see typed.go)
//	calls=3  serve           be the client or the server of a service (see service.go)
//	recv=3                   wait for 3 inputs without a word
//	events                   print every event until the end
//	forward=out              send every input on, until the end
//	record=FILE              write every event into a file, in the words of Python nodes
//	append=FILE:TEXT         append a line to a file
//	send-unread=out:5:100ms  as send, but without reading what comes in
//	hang-below=1             wait for ever while the restart count is below 1
//	close-stdout             close stdout
//	flood=1000000            one line of that many bytes on stdout
//	lines=1000:500           numbered lines "line 0", ... at this rate per second (0: at once)
//	spawn=sleep 100          start a grandchild in a session of its own
//	garbage huge wrong-id twice   be hostile on the node's connection (see hostile.go)
package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/arrow-go/v18/arrow/memory"
	"github.com/dora-go/dora/nodeapi"
)

func main() {
	t := &testnode{}
	for i, step := range os.Args[1:] {
		name, arg, _ := strings.Cut(step, "=")
		if name == "argv" {
			raw, _ := json.Marshal(os.Args[i+2:])
			fmt.Println(string(raw))
			return
		}
		if err := t.do(name, arg); err != nil {
			fmt.Fprintf(os.Stderr, "testnode: %s: %v\n", step, err)
			os.Exit(99)
		}
	}
	if t.node != nil {
		_ = t.node.Close()
	}
}

type testnode struct{ node *nodeapi.Node }

func (t *testnode) do(name, arg string) error {
	switch name {
	case "print":
		fmt.Println(arg)
	case "stderr":
		fmt.Fprintln(os.Stderr, arg)
	case "env":
		fmt.Printf("%s=%s\n", arg, os.Getenv(arg))
	case "sleep":
		d, err := time.ParseDuration(arg)
		time.Sleep(d)
		return err
	case "hang":
		for {
			time.Sleep(time.Hour)
		}
	case "await":
		for {
			if _, err := os.Stat(arg); err == nil {
				return nil
			}
			time.Sleep(10 * time.Millisecond)
		}
	case "burn":
		return burn(arg)
	case "exit":
		code, err := strconv.Atoi(arg)
		if err != nil {
			return err
		}
		os.Exit(code)
	case "kill":
		return syscall.Kill(os.Getpid(), syscall.SIGKILL)
	case "deaf":
		signal.Ignore(syscall.SIGTERM)
	case "append":
		return appendLine(arg)
	case "close-stdout":
		return os.Stdout.Close()
	case "flood":
		return flood(arg)
	case "lines":
		return printLines(arg)
	case "spawn":
		argv := strings.Fields(arg)
		cmd := exec.Command(argv[0], argv[1:]...)
		cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
		return cmd.Start()
	case "init":
		return t.init()
	case "garbage", "huge", "wrong-id", "twice":
		return hostile(name)
	default:
		return t.asNode(name, arg)
	}
	return nil
}

func (t *testnode) init() (err error) {
	t.node, err = nodeapi.Init(context.Background())
	return err
}

// asNode does the steps that need a node.
func (t *testnode) asNode(name, arg string) error {
	if t.node == nil {
		return fmt.Errorf("unknown step, or not after init")
	}
	switch name {
	case "count":
		fmt.Println("restart count", t.node.RestartCount())
	case "crash-below":
		below, code, err := pair(arg)
		if err != nil {
			return err
		}
		if int(t.node.RestartCount()) < below {
			os.Exit(code)
		}
	case "send":
		return t.send(arg)
	case "send-unread":
		return t.sendUnread(arg)
	case "record":
		return t.record(arg)
	case "hang-below":
		below, err := strconv.Atoi(arg)
		for err == nil && int(t.node.RestartCount()) < below {
			time.Sleep(time.Hour)
		}
		return err
	case "typed":
		return t.typed()
	case "calls":
		return t.calls(arg)
	case "serve":
		return t.serve()
	case "recv":
		n, err := strconv.Atoi(arg)
		if err != nil {
			return err
		}
		for e := range t.node.Events() {
			if _, ok := e.(*nodeapi.Input); ok {
				if n--; n <= 0 {
					return nil
				}
			}
		}
	case "forward":
		for e := range t.node.Events() {
			if in, ok := e.(*nodeapi.Input); ok {
				if err := t.node.SendOutput(arg, in.Data); err != nil {
					return err
				}
				in.Release()
			}
		}
	case "events":
		for e := range t.node.Events() {
			text := e.String()
			if in, ok := e.(*nodeapi.Input); ok {
				text = fmt.Sprintf("input %s: %v", in.ID, in.Data)
			}
			fmt.Println("EVENT", text)
		}
		fmt.Println("EVENT end")
	default:
		return fmt.Errorf("unknown step")
	}
	return nil
}

func pair(arg string) (a, b int, err error) {
	x, y, _ := strings.Cut(arg, ":")
	if a, err = strconv.Atoi(x); err != nil {
		return 0, 0, err
	}
	b, err = strconv.Atoi(y)
	return a, b, err
}

// send sends counting numbers, and ends early when the node is to stop.
func (t *testnode) send(arg string) error {
	stop := make(chan struct{})
	go func() {
		defer close(stop)
		for e := range t.node.Events() {
			if _, ok := e.(*nodeapi.Stop); ok {
				return
			}
		}
	}()
	return t.sendUntil(stop, arg)
}

func (t *testnode) sendUnread(arg string) error { return t.sendUntil(nil, arg) }

func (t *testnode) sendUntil(stop <-chan struct{}, arg string) error {
	parts := strings.Split(arg, ":")
	if len(parts) != 3 {
		return fmt.Errorf("want OUTPUT:COUNT:INTERVAL")
	}
	count, err := strconv.Atoi(parts[1])
	if err != nil {
		return err
	}
	gap, err := time.ParseDuration(parts[2])
	if err != nil {
		return err
	}
	for i := 1; count == 0 || i <= count; i++ {
		b := array.NewInt64Builder(memory.DefaultAllocator)
		b.Append(int64(i))
		if err := t.node.SendOutput(parts[0], b.NewArray()); err != nil {
			return err
		}
		select {
		case <-stop:
			return nil
		case <-time.After(gap):
		}
	}
	return nil
}

func flood(arg string) error {
	n, err := strconv.Atoi(arg)
	if err != nil {
		return err
	}
	chunk := []byte(strings.Repeat("x", 1<<16))
	for n > 0 {
		k := min(n, len(chunk))
		if _, err := os.Stdout.Write(chunk[:k]); err != nil {
			return err
		}
		n -= k
	}
	_, err = io.WriteString(os.Stdout, "\n")
	return err
}

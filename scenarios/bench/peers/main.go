package main

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strconv"
	"time"
)

// patience is how long an answer may take.
const patience = 10 * time.Second

// pinger sends a payload and waits for the 8 bytes that it begins with.
type pinger interface {
	ping(payload []byte, answer *[8]byte) error
	close() error
}

func main() {
	if err := run(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "peers:", err)
		os.Exit(1)
	}
}

func run(args []string) error {
	if len(args) < 2 {
		return errors.New("usage: peers socket|nats BYTES COUNT")
	}
	size, err := strconv.Atoi(args[1])
	if err != nil || size < 8 {
		return fmt.Errorf("BYTES is %q: at least 8", args[1])
	}
	if len(args) < 3 {
		return fmt.Errorf("%s: COUNT is missing", args[0])
	}
	switch args[0] {
	case "socket-echo":
		return socketEcho(args[2], size)
	case "nats-server":
		return natsServer(size)
	case "nats-echo":
		return natsEcho(args[2], size)
	}
	count, err := strconv.Atoi(args[2])
	if err != nil || count < 1 {
		return fmt.Errorf("COUNT is %q: at least 1", args[2])
	}
	var p pinger
	switch args[0] {
	case "socket":
		p, err = newSocket(size)
	case "nats":
		p, err = newNATS(size)
	default:
		err = fmt.Errorf("unknown peer %q", args[0])
	}
	if err != nil {
		return err
	}
	values, err := measure(p, size, count)
	if err := errors.Join(err, p.close()); err != nil {
		return err
	}
	out := bufio.NewWriter(os.Stdout)
	for _, v := range values {
		fmt.Fprintln(out, v.Nanoseconds())
	}
	return out.Flush()
}

func measure(p pinger, size, count int) ([]time.Duration, error) {
	payload := make([]byte, size)
	for i := range payload {
		payload[i] = byte(i)
	}
	values := make([]time.Duration, 0, count)
	var answer [8]byte
	for seq := range uint64(count) {
		stamp(payload, seq)
		begin := time.Now()
		if err := p.ping(payload, &answer); err != nil {
			return nil, fmt.Errorf("round trip %d: %w", seq, err)
		}
		values = append(values, time.Since(begin)/2)
		if got := binary.LittleEndian.Uint64(answer[:]); got != seq {
			return nil, fmt.Errorf("round trip %d: the answer is %d", seq, got)
		}
	}
	return values, nil
}

// stamp writes the number of the message to both ends of the payload.
func stamp(payload []byte, seq uint64) {
	binary.LittleEndian.PutUint64(payload, seq)
	binary.LittleEndian.PutUint64(payload[len(payload)-8:], seq)
}

// stamped returns the number, if both ends have it.
func stamped(payload []byte, size int) ([]byte, error) {
	if len(payload) != size || string(payload[:8]) != string(payload[size-8:]) {
		return nil, errors.New("a message arrived damaged")
	}
	return payload[:8], nil
}

// child is another process of this program. It ends when its standard input is closed.
type child struct {
	cmd *exec.Cmd
	in  io.Closer
	out *bufio.Reader
}

func startChild(args ...string) (*child, error) {
	exe, err := os.Executable()
	if err != nil {
		return nil, err
	}
	c := &child{cmd: exec.Command(exe, args...)}
	c.cmd.Stderr = os.Stderr
	if c.in, err = c.cmd.StdinPipe(); err != nil {
		return nil, err
	}
	out, err := c.cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	c.out = bufio.NewReader(out)
	if err := c.cmd.Start(); err != nil {
		return nil, err
	}
	return c, nil
}

// line waits for what the child says.
func (c *child) line() (string, error) {
	text, err := c.out.ReadString('\n')
	if err != nil {
		return "", fmt.Errorf("%v ended before it was ready: %w", c.cmd.Args[1:], err)
	}
	return text[:len(text)-1], nil
}

func (c *child) close() error {
	_ = c.in.Close()
	return c.cmd.Wait()
}

// untilEOF returns when the parent has closed standard input or is gone.
func untilEOF() error {
	_, err := io.Copy(io.Discard, os.Stdin)
	return err
}

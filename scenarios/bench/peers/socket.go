package main

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"time"
)

// socket sends a length of 8 bytes and the payload with one system call.
type socket struct {
	dir  string
	conn net.Conn
	echo *child
	head [8]byte
	bufs net.Buffers
}

func newSocket(size int) (*socket, error) {
	dir, err := os.MkdirTemp("", "peers-")
	if err != nil {
		return nil, err
	}
	s := &socket{dir: dir}
	if err := s.open(size); err != nil {
		return nil, errors.Join(err, s.close())
	}
	return s, nil
}

func (s *socket) open(size int) error {
	path := filepath.Join(s.dir, "s")
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
	if err != nil {
		return err
	}
	defer l.Close()
	if err := l.SetDeadline(time.Now().Add(patience)); err != nil {
		return err
	}
	if s.echo, err = startChild("socket-echo", strconv.Itoa(size), path); err != nil {
		return err
	}
	if s.conn, err = l.Accept(); err != nil {
		return fmt.Errorf("the other side does not come: %w", err)
	}
	return nil
}

func (s *socket) ping(payload []byte, answer *[8]byte) error {
	binary.LittleEndian.PutUint64(s.head[:], uint64(len(payload)))
	s.bufs = append(s.bufs[:0], s.head[:], payload)
	if _, err := s.bufs.WriteTo(s.conn); err != nil {
		return err
	}
	_, err := io.ReadFull(s.conn, answer[:])
	return err
}

func (s *socket) close() error {
	var err error
	if s.conn != nil {
		err = s.conn.Close()
	}
	if s.echo != nil {
		err = errors.Join(err, s.echo.close())
	}
	return errors.Join(err, os.RemoveAll(s.dir))
}

func socketEcho(path string, size int) error {
	conn, err := net.Dial("unix", path)
	if err != nil {
		return err
	}
	defer conn.Close()
	buf := make([]byte, size)
	var head [8]byte
	for {
		if _, err := io.ReadFull(conn, head[:]); errors.Is(err, io.EOF) {
			return nil
		} else if err != nil {
			return err
		}
		n := binary.LittleEndian.Uint64(head[:])
		if n > uint64(size) {
			return fmt.Errorf("a message of %d bytes; %d were announced", n, size)
		}
		if _, err := io.ReadFull(conn, buf[:n]); err != nil {
			return err
		}
		answer, err := stamped(buf[:n], size)
		if err != nil {
			return err
		}
		if _, err := conn.Write(answer); err != nil {
			return err
		}
	}
}

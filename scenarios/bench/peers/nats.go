package main

import (
	"errors"
	"fmt"
	"strconv"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
)

// headroom is what a message may have beyond its payload.
const headroom = 1 << 20

// broker is a NATS server and an echo, each in a process of its own.
type broker struct {
	server, echo *child
	conn         *nats.Conn
	answers      *nats.Subscription
}

func newNATS(size int) (*broker, error) {
	b := &broker{}
	if err := b.open(size); err != nil {
		return nil, errors.Join(err, b.close())
	}
	return b, nil
}

func (b *broker) open(size int) error {
	bytes := strconv.Itoa(size)
	var err error
	if b.server, err = startChild("nats-server", bytes, "-"); err != nil {
		return err
	}
	url, err := b.server.line()
	if err != nil {
		return err
	}
	if b.echo, err = startChild("nats-echo", bytes, url); err != nil {
		return err
	}
	if _, err := b.echo.line(); err != nil {
		return err
	}
	if b.conn, err = nats.Connect(url, nats.Timeout(patience)); err != nil {
		return err
	}
	b.answers, err = b.conn.SubscribeSync("pong")
	return err
}

func (b *broker) ping(payload []byte, answer *[8]byte) error {
	if err := b.conn.Publish("ping", payload); err != nil {
		return err
	}
	msg, err := b.answers.NextMsg(patience)
	if err != nil {
		return err
	}
	if copy(answer[:], msg.Data) != 8 {
		return fmt.Errorf("an answer of %d bytes", len(msg.Data))
	}
	return nil
}

func (b *broker) close() error {
	if b.conn != nil {
		b.conn.Close()
	}
	var err error
	for _, c := range []*child{b.echo, b.server} {
		if c != nil {
			err = errors.Join(err, c.close())
		}
	}
	return err
}

func natsServer(size int) error {
	s, err := server.NewServer(&server.Options{
		Host: "127.0.0.1", Port: server.RANDOM_PORT, NoLog: true, NoSigs: true,
		MaxPayload: int32(size + headroom), MaxPending: int64(4 * (size + headroom)),
	})
	if err != nil {
		return err
	}
	go s.Start()
	if !s.ReadyForConnections(patience) {
		return errors.New("the NATS server is not ready")
	}
	fmt.Println(s.ClientURL())
	err = untilEOF()
	s.Shutdown()
	s.WaitForShutdown()
	return err
}

func natsEcho(url string, size int) error {
	conn, err := nats.Connect(url, nats.Timeout(patience))
	if err != nil {
		return err
	}
	defer conn.Close()
	failed := make(chan error, 1)
	_, err = conn.Subscribe("ping", func(m *nats.Msg) {
		answer, err := stamped(m.Data, size)
		if err == nil {
			err = conn.Publish("pong", answer)
		}
		if err != nil {
			select {
			case failed <- err:
			default:
			}
		}
	})
	if err == nil {
		err = conn.Flush()
	}
	if err != nil {
		return err
	}
	fmt.Println("ready")
	if err := untilEOF(); err != nil {
		return err
	}
	select {
	case err := <-failed:
		return err
	default:
		return nil
	}
}

package route

import (
	"fmt"
	"testing"
	"time"

	"github.com/dora-go/dora/transport/nodewire"
)

// BenchmarkThroughput: a producer sends as fast as it can over a backpressure edge; the
// figures are messages and bytes per second through the router.
func BenchmarkThroughput(b *testing.B) {
	for _, size := range []int{8, 4 << 10, 64 << 10, 1 << 20, 16 << 20} {
		b.Run(fmt.Sprint(size), func(b *testing.B) {
			load := flow(b, "a: -> x", "b: p=a/x")
			inputOf(load, "b", "p").Backpressure = true
			g := start(b, load)
			n := g.running("a", "b")
			_ = n[0].ctl.SetDeadline(time.Time{})
			_ = n[1].events.SetDeadline(time.Time{})
			payload := make([]byte, size)
			b.SetBytes(int64(size))
			b.ReportAllocs()
			b.ResetTimer()
			go func() {
				head := nodewire.AppendSendHead(nil, "x", nodewire.Metadata{Time: n[0].clock.Now()}, size)
				tail := nodewire.AppendTimestamp(nil, n[0].clock.Now())
				for range b.N {
					if n[0].ctl.Write(head, payload, tail) != nil {
						return
					}
				}
			}()
			for got := 0; got < b.N; {
				reply, buf, err := n[1].events.Call(&nodewire.Request{Kind: nodewire.NextEvent, Time: n[1].clock.Now()})
				if err != nil {
					b.Fatal(err)
				}
				got += len(reply.Events)
				buf.Release()
			}
			b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "msgs/s")
		})
	}
}

// BenchmarkLatency: one message at a time from sending to receiving.
func BenchmarkLatency(b *testing.B) {
	for _, size := range []int{8, 4 << 10, 1 << 20, 16 << 20} {
		b.Run(fmt.Sprint(size), func(b *testing.B) {
			g := start(b, flow(b, "a: -> x", "b: p=a/x"))
			n := g.running("a", "b")
			_ = n[0].ctl.SetDeadline(time.Time{})
			_ = n[1].events.SetDeadline(time.Time{})
			payload := make([]byte, size)
			head := nodewire.AppendSendHead(nil, "x", nodewire.Metadata{Time: n[0].clock.Now()}, size)
			tail := nodewire.AppendTimestamp(nil, n[0].clock.Now())
			b.ReportAllocs()
			for b.Loop() {
				if err := n[1].events.Send(&nodewire.Request{Kind: nodewire.NextEvent, Time: n[1].clock.Now()}); err != nil {
					b.Fatal(err)
				}
				if err := n[0].ctl.Write(head, payload, tail); err != nil {
					b.Fatal(err)
				}
				_, buf, err := n[1].events.ReadReply()
				if err != nil {
					b.Fatal(err)
				}
				buf.Release()
			}
		})
	}
}

package store

import (
	"fmt"
	"strings"
	"sync/atomic"
	"testing"
)

// BenchmarkPublish measures messages of 130 bytes from many connections at once, batched as
// Publish does it, next to one script call each.
func BenchmarkPublish(b *testing.B) {
	payload := []byte(strings.Repeat("x", 130))
	for _, be := range backends {
		if be.embedded {
			continue
		}
		s := be.open(b)
		batched := func(m Message) error {
			_, err := s.Publish(b.Context(), m)
			return err
		}
		plain := func(m Message) error {
			m.ID = randomID()
			c := s.publishCall(m)
			_, err := c.script.Run(b.Context(), s.client, c.keys, c.args...).Text()
			return err
		}
		for _, publishers := range []int{1, 64, 512} {
			for name, publish := range map[string]func(Message) error{"batched": batched, "plain": plain} {
				b.Run(fmt.Sprintf("%s/publishers=%d/%s", be.name, publishers, name), func(b *testing.B) {
					publishFrom(b, publishers, payload, publish)
				})
			}
		}
	}
}

func publishFrom(b *testing.B, publishers int, payload []byte, publish func(Message) error) {
	b.ReportAllocs()
	var left atomic.Int64
	left.Store(int64(b.N))
	done := make(chan error, publishers)
	for i := range publishers {
		go func() {
			m := Message{Room: fmt.Sprint("bench", i%16), User: fmt.Sprint("user", i), Payload: payload}
			for left.Add(-1) >= 0 {
				if err := publish(m); err != nil {
					done <- err
					return
				}
			}
			done <- nil
		}()
	}
	for range publishers {
		if err := <-done; err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "messages/s")
}

package redistest

import (
	"testing"
)

func TestServersTakeWritesOnEverySlotAndStop(t *testing.T) {
	t.Parallel()
	var nodes []*Node
	t.Run("running", func(t *testing.T) {
		Each(t, func(t *testing.T, r *Redis) {
			c := r.Client(t)
			for _, key := range []string{"a", "b", "c", "d", "e", "f"} { // on all three masters
				if err := c.Set(t.Context(), key, 1, 0).Err(); err != nil {
					t.Fatal(err)
				}
			}
			nodes = append(nodes, r.Nodes...)
		})
	})
	if len(nodes) != 1+masters {
		t.Fatalf("%d nodes were started, want %d", len(nodes), 1+masters)
	}
	for _, n := range nodes {
		select {
		case <-n.exited:
		default:
			t.Errorf("the server on %s runs on after its test", n.Addr)
		}
	}
}

func TestMovedSlotKeepsItsKeys(t *testing.T) {
	t.Parallel()
	r := Cluster(t)
	c := r.Client(t)
	if err := c.Set(t.Context(), "moving", "value", 0).Err(); err != nil {
		t.Fatal(err)
	}
	from, _, err := r.owners(t.Context(), "moving")
	if err != nil {
		t.Fatal(err)
	}
	if err := r.MoveSlot(t.Context(), "moving"); err != nil {
		t.Fatal(err)
	}
	if now, _, err := r.owners(t.Context(), "moving"); err != nil || now == from {
		t.Fatalf("the slot is still on %s (%v)", from.Addr, err)
	}
	if got := c.Get(t.Context(), "moving").Val(); got != "value" {
		t.Fatalf("the key holds %q after the move", got)
	}
}

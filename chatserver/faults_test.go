package chatserver_test

import (
	"flag"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/chatcluster/chatcluster/chatserver/client"
	"github.com/chatcluster/chatcluster/chatserver/protocol"
	"github.com/chatcluster/chatcluster/chatserver/redistest"
)

var long = flag.Bool("long", false, "hold each fault for as long as it may last in production")

// lasting is how long a fault lasts, or how often it comes: the first for every day, the
// second with -long.
func lasting[T any](short, longer T) T {
	if *long {
		return longer
	}
	return short
}

// last lets a fault last.
func (s *stage) last(short, longer time.Duration) { time.Sleep(lasting(short, longer)) }

// pausedTime is longer than a server's heartbeat lives, so that the others take
// it for dead.
const pausedTime = 7 * time.Second

// fault is what is done to a service while people talk.
type fault struct {
	name string
	on   redistest.Layout // Cluster is set by the test
	only string           // standalone or cluster; empty: both
	say  []string         // flags of the servers: the durability at which nothing may be lost
	text int              // bytes of a message; 0: 100
	do   func(s *stage)
}

var (
	// A Redis that is ended in order loses nothing that it has taken, if it keeps a file.
	withFile = redistest.Layout{Fsync: "everysec"}
	// One that is killed loses nothing that it has synced,
	synced  = redistest.Layout{Fsync: "always"}
	durable = []string{"--durability=durable", "--durability-replicas=0"}
	// and one that is not there any more, nothing that its replica has.
	withReplica = redistest.Layout{Replicas: 1}
	replicated  = []string{"--durability=replicated"}
)

var faults = []fault{
	{name: "ServerKilled", do: func(s *stage) { s.one.kill() }},
	{name: "ServerTerminated", do: func(s *stage) {
		if code := s.one.terminate(); code != 0 {
			s.t.Errorf("the server exited with %d", code)
		}
	}},
	{name: "ServerPaused", do: func(s *stage) {
		// The load balancer notices after a moment, in which messages pile up before the
		// paused server: when it wakes, their senders are far ahead on another one.
		s.one.signal(syscall.SIGSTOP)
		time.Sleep(500 * time.Millisecond)
		s.left.lead(s.two)
		s.left.cut()
		s.last(pausedTime, 30*time.Second)
		s.one.signal(syscall.SIGCONT)
		s.flow(100)
		s.left.lead(s.one, s.two)
		s.left.cut()
	}},
	{name: "ConnectionsCutMidFrame", say: []string{"--plaintext"}, text: 3000, do: func(s *stage) {
		for n := range int64(lasting(10, 100)) {
			s.left.limit(5000 + 1777*n) // in the midst of a frame, somewhere else each time
			s.left.cut()
			s.flow(20)
		}
		s.left.limit(0)
		s.left.cut()
	}},
	{name: "SlowReader", text: 3000, do: func(s *stage) {
		var asleep atomic.Bool
		wake := make(chan struct{})
		s.enter("slow", s.left, func(o *client.Options) {
			note := o.Received
			o.Received = func(e protocol.Event) {
				if asleep.Load() {
					<-wake
				}
				note(e)
			}
		})
		asleep.Store(true)
		s.last(5*time.Second, time.Minute)
		asleep.Store(false)
		close(wake)
	}},
	{name: "SubscriptionsDropped", do: func(s *stage) {
		for range lasting(5, 50) {
			for _, n := range s.redis.Nodes {
				s.admin(n, "CLIENT", "KILL", "TYPE", "pubsub")
			}
			s.flow(20)
		}
	}},
	{name: "TriedAgainElsewhereWhileUnderWay", do: func(s *stage) {
		// Redis stands still with messages on their way to it. Their senders lose their
		// connections, and send the same through the other server.
		for range lasting(2, 10) {
			var thaw []func()
			for _, n := range s.redis.Nodes {
				thaw = append(thaw, n.Freeze())
			}
			time.Sleep(500 * time.Millisecond)
			s.left.lead(s.two)
			s.right.lead(s.one)
			s.left.cut()
			s.right.cut()
			time.Sleep(500 * time.Millisecond)
			for _, f := range thaw {
				f()
			}
			s.flow(50)
			s.left.lead(s.one)
			s.right.lead(s.two)
			s.left.cut()
			s.right.cut()
		}
	}},
	{name: "RedisRestarted", on: withFile, do: func(s *stage) {
		for _, n := range s.redis.Nodes {
			n.Terminate()
			s.restart(n)
			s.flow(20)
		}
	}},
	{name: "RedisKilled", on: synced, say: durable, do: func(s *stage) {
		for _, n := range s.redis.Nodes {
			n.Stop()
			s.restart(n)
			s.flow(20)
		}
	}},
	{name: "MasterKilledAndReplaced", on: withReplica, only: "Cluster", say: replicated, do: func(s *stage) {
		master, replica := s.master()
		master.Stop()
		s.must(replica.AwaitMaster())
		s.last(0, 10*time.Second)
		s.restart(master) // as a replica of the new one, without which nothing is safe
	}},
	{name: "MasterFrozenAndReplaced", on: withReplica, only: "Cluster", say: replicated, do: func(s *stage) {
		master, replica := s.master()
		thaw := master.Freeze() // it does not know that it is replaced when it wakes
		s.must(replica.AwaitMaster())
		s.last(0, 30*time.Second)
		thaw()
	}},
	{name: "ReplicaKilled", on: withReplica, say: replicated, do: func(s *stage) {
		master, replica := s.master()
		replica.Stop()
		s.last(time.Second, 20*time.Second)
		s.restart(replica)
		if !s.redis.IsCluster {
			s.must(replica.Follow(s.t.Context(), master)) // the nodes of a cluster remember whom they follow
		}
	}},
}

func TestFaults(t *testing.T) {
	t.Parallel()
	for _, fault := range faults {
		for _, on := range []string{"Standalone", "Cluster"} {
			if fault.only != "" && fault.only != on {
				continue
			}
			t.Run(fault.name+"/"+on, func(t *testing.T) {
				t.Parallel()
				layout := fault.on
				layout.Cluster = on == "Cluster"
				s := newStage(t, redistest.Run(t, layout), fault.say...)
				s.tell(s.play(strings.Repeat("x", max(fault.text, 100)), func() { fault.do(s) }))
			})
		}
	}
}

func (s *server) signal(sig syscall.Signal) { _ = s.cmd.Process.Signal(sig) }

func (s *stage) must(err error) {
	s.t.Helper()
	if err != nil {
		s.t.Fatal(err)
	}
}

func (s *stage) restart(n *redistest.Node) {
	s.t.Helper()
	s.must(n.Restart())
}

func (s *stage) admin(n *redistest.Node, command ...any) {
	s.t.Helper()
	c := n.Client()
	defer c.Close()
	s.must(c.Do(s.t.Context(), command...).Err())
}

// master is the one that the first room is on, with its replica.
func (s *stage) master() (master, replica *redistest.Node) {
	s.t.Helper()
	master, err := s.redis.Owner(s.t.Context(), "{"+s.rooms[0]+"}")
	s.must(err)
	replica, err = s.redis.Replica(s.t.Context(), master)
	s.must(err)
	return master, replica
}

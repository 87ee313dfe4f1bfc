package redistest

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/redis/go-redis/v9"
)

const (
	masters = 3
	slots   = 16384
)

var clusterArgs = []string{"--cluster-enabled", "yes", "--cluster-node-timeout", "2000"}

// form gives each node a third of the slots, introduces them, and waits until all agree.
func (r *Redis) form() error {
	ctx, cancel := context.WithTimeout(context.Background(), startTimeout)
	defer cancel()
	for i, n := range r.Nodes {
		c := n.Client()
		defer func() { _ = c.Close() }()
		if err := c.Do(ctx, "CLUSTER", "SET-CONFIG-EPOCH", i+1).Err(); err != nil {
			return err
		}
		if err := c.ClusterAddSlotsRange(ctx, i*slots/masters, (i+1)*slots/masters-1).Err(); err != nil {
			return err
		}
		for _, other := range r.Nodes[:i] {
			if err := c.Do(ctx, "CLUSTER", "MEET", "127.0.0.1", other.port, other.bus).Err(); err != nil {
				return err
			}
		}
	}
	for _, n := range r.Nodes {
		if err := n.awaitCluster(); err != nil {
			return err
		}
	}
	return nil
}

// awaitCluster waits until the node takes commands and knows all masters.
func (n *Node) awaitCluster() error {
	c := n.Client()
	defer func() { _ = c.Close() }()
	return await(func(ctx context.Context) error {
		info, err := c.ClusterInfo(ctx).Result()
		if err != nil {
			return err
		}
		if !strings.Contains(info, "cluster_state:ok") || !strings.Contains(info, fmt.Sprintf("cluster_size:%d", masters)) {
			return fmt.Errorf("node %s is not ready: %s", n.Addr, info)
		}
		return nil
	})
}

// AddReplica starts a replica of one of the masters and waits until it has its data.
func (r *Redis) AddReplica(ctx context.Context, master *Node) (*Node, error) {
	n, err := startNode(r.dir, r.args...)
	if err != nil {
		return nil, err
	}
	r.Nodes = append(r.Nodes, n)
	if err := r.replicate(ctx, n, master); err != nil {
		return nil, fmt.Errorf("replicate %s: %w", master.Addr, err)
	}
	return n, nil
}

func (r *Redis) replicate(ctx context.Context, n, master *Node) error {
	of, c := master.Client(), n.Client()
	defer func() { _, _ = of.Close(), c.Close() }()
	if !r.IsCluster {
		return n.Follow(ctx, master)
	}
	id, err := of.Do(ctx, "CLUSTER", "MYID").Text()
	if err != nil {
		return err
	}
	if err := c.Do(ctx, "CLUSTER", "MEET", "127.0.0.1", master.port, master.bus).Err(); err != nil {
		return err
	}
	// It is refused until gossip has told of the master.
	if err := await(func(ctx context.Context) error { return c.Do(ctx, "CLUSTER", "REPLICATE", id).Err() }); err != nil {
		return err
	}
	if err := n.AwaitSync(); err != nil {
		return err
	}
	return r.awaitKnown(n)
}

// Follow makes a node that is in no cluster a replica, and waits until it has the master's
// data in place of its own.
func (n *Node) Follow(ctx context.Context, master *Node) error {
	c := n.Client()
	defer func() { _ = c.Close() }()
	if err := c.Do(ctx, "REPLICAOF", "127.0.0.1", master.port).Err(); err != nil {
		return err
	}
	return n.AwaitSync()
}

// Promote makes a replica that is in no cluster a master.
func (n *Node) Promote(ctx context.Context) error {
	c := n.Client()
	defer func() { _ = c.Close() }()
	return c.Do(ctx, "REPLICAOF", "NO", "ONE").Err()
}

// AwaitSync waits until a replica has its master's data.
func (n *Node) AwaitSync() error {
	c := n.Client()
	defer func() { _ = c.Close() }()
	return await(func(ctx context.Context) error {
		info, err := c.Info(ctx, "replication").Result()
		if err == nil && !strings.Contains(info, "master_link_status:up") {
			err = fmt.Errorf("replica %s is not in sync: %s", n.Addr, info)
		}
		return err
	})
}

// AwaitMaster waits until the node is a master that takes commands.
func (n *Node) AwaitMaster() error {
	c := n.Client()
	defer func() { _ = c.Close() }()
	return await(func(ctx context.Context) error {
		info, err := c.Info(ctx, "replication", "cluster").Result()
		if err == nil && !strings.Contains(info, "role:master") {
			err = fmt.Errorf("%s is no master: %s", n.Addr, info)
		}
		return err
	})
}

// awaitKnown waits until all nodes know one, as a failover needs.
func (r *Redis) awaitKnown(n *Node) error {
	for _, other := range r.Nodes {
		c := other.Client()
		err := await(func(ctx context.Context) error {
			nodes, err := c.ClusterNodes(ctx).Result()
			for line := range strings.Lines(nodes) {
				if strings.Contains(line, n.Addr) && strings.Contains(line, "slave") {
					return nil
				}
			}
			return errors.Join(fmt.Errorf("%s does not know the replica %s", other.Addr, n.Addr), err)
		})
		_ = c.Close()
		if err != nil {
			return err
		}
	}
	return nil
}

// MoveSlot gives the slot of key to another master, with the keys in it.
func (r *Redis) MoveSlot(ctx context.Context, key string) error {
	from, to, err := r.owners(ctx, key)
	if err != nil {
		return err
	}
	source, target := from.Client(), to.Client()
	defer func() { _, _ = source.Close(), target.Close() }()
	slot, err := source.ClusterKeySlot(ctx, key).Result()
	if err != nil {
		return err
	}
	sourceID, targetID, err := ids(ctx, source, target)
	if err != nil {
		return err
	}
	if err := target.Do(ctx, "CLUSTER", "SETSLOT", slot, "IMPORTING", sourceID).Err(); err != nil {
		return fmt.Errorf("import slot %d: %w", slot, err)
	}
	if err := source.Do(ctx, "CLUSTER", "SETSLOT", slot, "MIGRATING", targetID).Err(); err != nil {
		return fmt.Errorf("migrate slot %d: %w", slot, err)
	}
	if err := moveKeys(ctx, source, to.port, slot); err != nil {
		return fmt.Errorf("move the keys of slot %d: %w", slot, err)
	}
	for _, c := range []*redis.Client{target, source} {
		if err := c.Do(ctx, "CLUSTER", "SETSLOT", slot, "NODE", targetID).Err(); err != nil {
			return fmt.Errorf("give slot %d away: %w", slot, err)
		}
	}
	return nil
}

func ids(ctx context.Context, source, target *redis.Client) (sourceID, targetID string, err error) {
	if sourceID, err = source.Do(ctx, "CLUSTER", "MYID").Text(); err == nil {
		targetID, err = target.Do(ctx, "CLUSTER", "MYID").Text()
	}
	return sourceID, targetID, err
}

func moveKeys(ctx context.Context, source *redis.Client, port int, slot int64) error {
	for {
		keys, err := source.ClusterGetKeysInSlot(ctx, int(slot), 100).Result()
		if err != nil || len(keys) == 0 {
			return err
		}
		args := []any{"MIGRATE", "127.0.0.1", port, "", 0, 5000, "KEYS"}
		for _, k := range keys {
			args = append(args, k)
		}
		if err := source.Do(ctx, args...).Err(); err != nil {
			return err
		}
	}
}

// Owner is the master that serves key.
func (r *Redis) Owner(ctx context.Context, key string) (*Node, error) {
	if !r.IsCluster {
		return r.Nodes[0], nil
	}
	from, _, err := r.owners(ctx, key)
	return from, err
}

// Replica is a replica of a master.
func (r *Redis) Replica(ctx context.Context, master *Node) (*Node, error) {
	c := master.Client()
	defer func() { _ = c.Close() }()
	info, err := c.Info(ctx, "replication").Result()
	if err != nil {
		return nil, err
	}
	for _, n := range r.Nodes {
		if strings.Contains(info, fmt.Sprintf("port=%d,", n.port)) {
			return n, nil
		}
	}
	return nil, fmt.Errorf("%s has no replica: %s", master.Addr, info)
}

// owners finds the master that serves key, and one that does not.
func (r *Redis) owners(ctx context.Context, key string) (from, to *Node, err error) {
	for _, n := range r.Nodes {
		c := n.Client()
		err := c.Exists(ctx, key).Err()
		role, _ := c.Info(ctx, "replication").Result()
		_ = c.Close()
		switch {
		case redis.HasErrorPrefix(err, "MOVED") && strings.Contains(role, "role:master"):
			to = n
		case err == nil:
			from = n
		}
	}
	if from == nil || to == nil {
		return nil, nil, fmt.Errorf("no node serves %s, or all do", key)
	}
	return from, to, nil
}

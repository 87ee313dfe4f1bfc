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

// StartCluster starts three masters with their files in dir; the caller stops them.
func StartCluster(dir string) (*Redis, error) {
	r := &Redis{IsCluster: true}
	for range masters {
		n, err := startNode(dir, clusterArgs...)
		if err != nil {
			r.Stop()
			return nil, err
		}
		r.Nodes = append(r.Nodes, n)
		r.URLs = append(r.URLs, "redis://"+n.Addr)
	}
	if err := r.form(); err != nil {
		r.Stop()
		return nil, fmt.Errorf("form a cluster: %w", err)
	}
	return r, nil
}

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
func (r *Redis) AddReplica(ctx context.Context, dir string, master *Node) error {
	n, err := startNode(dir, clusterArgs...)
	if err != nil {
		return err
	}
	r.Nodes = append(r.Nodes, n)
	of, c := master.Client(), n.Client()
	defer func() { _, _ = of.Close(), c.Close() }()
	id, err := of.Do(ctx, "CLUSTER", "MYID").Text()
	if err != nil {
		return err
	}
	if err := c.Do(ctx, "CLUSTER", "MEET", "127.0.0.1", master.port, master.bus).Err(); err != nil {
		return err
	}
	// It is refused until gossip has told of the master.
	if err := await(func(ctx context.Context) error { return c.Do(ctx, "CLUSTER", "REPLICATE", id).Err() }); err != nil {
		return fmt.Errorf("replicate %s: %w", master.Addr, err)
	}
	err = await(func(ctx context.Context) error {
		info, err := c.Info(ctx, "replication").Result()
		if err == nil && !strings.Contains(info, "master_link_status:up") {
			err = fmt.Errorf("replica %s is not in sync: %s", n.Addr, info)
		}
		return err
	})
	if err != nil {
		return err
	}
	return r.awaitKnown(n)
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

// owners finds the node that serves key, and one that does not.
func (r *Redis) owners(ctx context.Context, key string) (from, to *Node, err error) {
	for _, n := range r.Nodes {
		c := n.Client()
		err := c.Get(ctx, key).Err()
		_ = c.Close()
		if redis.HasErrorPrefix(err, "MOVED") {
			to = n
		} else {
			from = n
		}
	}
	if from == nil || to == nil {
		return nil, nil, fmt.Errorf("no node serves %s, or all do", key)
	}
	return from, to, nil
}

package enginetest

import (
	"context"
	"errors"
	"fmt"
	"net"
	"sync"
	"testing"

	"yaosu/local"
)

// Server is a server of a cluster, by both transports.
type Server struct {
	Native, HTTP string
}

// Names of the clusters that the servers of Cluster know: one of shards, one
// that copies to every server, and one that lacks the second server.
const (
	Shards     = "yaosu"
	Everywhere = "yaosu_everywhere"
	OnlyFirst  = "only_first"
)

// Cluster starts two engines for this test that know each other.
func Cluster(t testing.TB) [2]Server {
	t.Helper()
	var listeners [2]net.Listener
	var ports [2]int
	var replicas [2]any
	for i := range ports {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		listeners[i], ports[i] = l, l.Addr().(*net.TCPAddr).Port
		replicas[i] = fmt.Sprintf("<replica><host>127.0.0.1</host><port>%d</port></replica>", ports[i])
	}
	for _, l := range listeners {
		if err := l.Close(); err != nil {
			t.Fatal(err)
		}
	}
	clusters := fmt.Sprintf("<remote_servers>"+
		"<"+Shards+"><shard>%[1]s</shard><shard>%[2]s</shard></"+Shards+">"+
		"<"+Everywhere+"><shard><internal_replication>false</internal_replication>%[1]s%[2]s</shard></"+Everywhere+">"+
		"<"+OnlyFirst+"><shard>%[1]s</shard></"+OnlyFirst+">"+
		"</remote_servers>", replicas[:]...)
	ctx, cancel := context.WithTimeout(context.Background(), startTimeout)
	defer cancel()
	var engines [2]*local.Engine
	var errs [2]error
	var wait sync.WaitGroup
	for i := range engines {
		cfg := local.EngineConfig{Dir: t.TempDir(), NativePort: ports[i], MemoryLimit: memoryLimit, ExtraConfig: clusters, Log: log()}
		wait.Go(func() { engines[i], errs[i] = local.StartEngine(ctx, cfg) })
	}
	wait.Wait()
	t.Cleanup(func() { CloseAll(t, engines[:]...) })
	if err := errors.Join(errs[:]...); err != nil {
		t.Fatal(err)
	}
	var servers [2]Server
	for i, e := range engines {
		servers[i] = Server{Native: e.NativeDSN(), HTTP: e.HTTPDSN()}
	}
	return servers
}

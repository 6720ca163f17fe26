package gate_test

import (
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"yaosu/gate"
	"yaosu/internal/enginetest"
	"yaosu/internal/proc"
)

// Whoever got an answer may forget, whoever got none sends again: with that, a
// broker that is killed while shops sell costs no sale.
func TestABrokerThatIsKilledCostsNoSale(t *testing.T) {
	broker := proc.StartBroker(t, proc.BrokerConfig{Output: t.Output()})
	js := enginetest.JetStream(t, broker.URL(), nats.MaxReconnects(-1), nats.ReconnectWait(50*time.Millisecond))
	enginetest.Streams(t, js)
	url := open(t, gate.Config{Sink: gate.NewJetStreamSink(js)})
	const shops, each = 8, 40
	client := &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: shops}}
	half := make(chan struct{}, shops) // each says once that it is half done
	var all sync.WaitGroup
	for shop := range shops {
		all.Go(func() {
			for n := range each {
				if n == each/2 {
					half <- struct{}{}
				}
				event := saleAt(fmt.Sprintf("P%d", shop), region, shop*each+n)
				for answered := false; !answered; {
					req, err := http.NewRequestWithContext(t.Context(), "POST", url+"/v1/scans", strings.NewReader(event))
					if err != nil {
						t.Error(err)
						return
					}
					switch got := do(t, client, req); got.Status {
					case 200:
						answered = true
					case 503:
					default:
						t.Errorf("got %d %s, want 200, or 503 while the broker is away", got.Status, got.Body)
						return
					}
				}
			}
		})
	}
	<-half
	broker.Kill()
	broker.Start()
	all.Wait()
	stored := map[string]bool{}
	for _, event := range scansOf(published(t, js)) {
		stored[event] = true
	}
	var missing []string
	for n := range shops * each {
		if event := saleAt(fmt.Sprintf("P%d", n/each), region, n); !stored[event] {
			missing = append(missing, event)
		}
	}
	slices.Sort(missing)
	if len(missing) > 0 || len(stored) != shops*each {
		t.Errorf("%d sales are in the stream, want %d; missing %q", len(stored), shops*each, missing)
	}
}

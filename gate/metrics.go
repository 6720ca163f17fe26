package gate

import (
	"net"
	"net/http"
	"strconv"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"
)

// metrics are the door's own, beside what Config.Metrics has already.
type metrics struct {
	clients  prometheus.Gauge
	requests *prometheus.CounterVec   // by route and status
	took     *prometheus.HistogramVec // by route
	events   *prometheus.CounterVec   // by status
	handler  http.Handler
}

func newMetrics(registry *prometheus.Registry, d *door) (*metrics, error) {
	m := &metrics{
		clients: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "yaosu_gate_clients", Help: "Connections that are open."}),
		requests: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "yaosu_gate_requests_total", Help: "Requests that were answered, by route and status."}, []string{"route", "status"}),
		took: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: "yaosu_gate_request_seconds", Help: "Time from a request's header to its answer, by route.",
			Buckets: []float64{.001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10, 30}}, []string{"route"}),
		events: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "yaosu_gate_events_total", Help: "Events of requests whose events are all stored, by what was answered."}, []string{"result"}),
	}
	for _, result := range []string{accepted, duplicate, rejected} {
		m.events.WithLabelValues(result)
	}
	for _, c := range []prometheus.Collector{
		m.clients, m.requests, m.took, m.events,
		prometheus.NewGaugeFunc(prometheus.GaugeOpts{
			Name: "yaosu_gate_busy_requests", Help: "Requests that are worked on."},
			func() float64 { return float64(len(d.busy)) }),
		prometheus.NewGaugeFunc(prometheus.GaugeOpts{
			Name: "yaosu_gate_body_bytes", Help: "Bytes of the bodies that are held."},
			func() float64 { return float64(d.memory.used.Load()) }),
	} {
		if err := registry.Register(c); err != nil {
			return nil, err
		}
	}
	m.handler = promhttp.HandlerFor(registry, promhttp.HandlerOpts{})
	return m, nil
}

func (m *metrics) connection(_ net.Conn, state http.ConnState) {
	switch state {
	case http.StateNew:
		m.clients.Inc()
	case http.StateClosed, http.StateHijacked:
		m.clients.Dec()
	}
}

func (m *metrics) answered(route string, status int, took time.Duration) {
	m.requests.WithLabelValues(route, strconv.Itoa(status)).Inc()
	m.took.WithLabelValues(route).Observe(took.Seconds())
}

func (m *metrics) count(results []eventAnswer) {
	counts := map[string]int{}
	for _, r := range results {
		counts[r.Status]++
	}
	for result, n := range counts {
		m.events.WithLabelValues(result).Add(float64(n))
	}
}

func (d *door) serveMetrics(c *call) error {
	c.status = http.StatusOK
	d.metrics.handler.ServeHTTP(c.w, c.r)
	return nil
}

package main

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"

	"yaosu/detect"
	"yaosu/gate"
	"yaosu/gate/check"
	"yaosu/gate/filter"
	"yaosu/gate/offline"
	"yaosu/ingest"
	"yaosu/local"
	"yaosu/scanner"
)

// counted is what /metrics serves of the parts that run in this process. The parts
// keep their counts themselves; here they get names.
type counted struct{ registry *prometheus.Registry }

func newCounted() *counted {
	c := &counted{prometheus.NewRegistry()}
	c.registry.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	return c
}

// measure is one number that a part counts in a C.
type measure[C any, N uint64 | float64] struct {
	name, help string
	of         func(C) N
}

// counters registers counts that only grow. Names are constants: two of the same are a
// mistake of ours.
func counters[C any, N uint64 | float64](c *counted, now func() C, list []measure[C, N]) {
	for _, m := range list {
		c.registry.MustRegister(prometheus.NewCounterFunc(prometheus.CounterOpts{Name: m.name, Help: m.help},
			func() float64 { return float64(m.of(now())) }))
	}
}

func gauges[C any, N uint64 | float64](c *counted, now func() C, list []measure[C, N]) {
	for _, m := range list {
		c.registry.MustRegister(prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: m.name, Help: m.help},
			func() float64 { return float64(m.of(now())) }))
	}
}

func (c *counted) sink(s *gate.JetStreamSink) {
	counters(c, s.Counts, []measure[gate.SinkCounts, uint64]{
		{"yaosu_gate_messages_total", "Messages that NATS acknowledged.", func(c gate.SinkCounts) uint64 { return c.Messages }},
		{"yaosu_gate_message_events_total", "Events in these messages.", func(c gate.SinkCounts) uint64 { return c.Events }},
		{"yaosu_gate_batches_total", "Atomic batches of messages that NATS stored by one acknowledgement.", func(c gate.SinkCounts) uint64 { return c.Batches }},
		{"yaosu_gate_messages_failed_total", "Messages that NATS did not acknowledge.", func(c gate.SinkCounts) uint64 { return c.Failed }},
	})
}

func (c *counted) spool(s *scanner.Spool) {
	gauges(c, s.Status, []measure[scanner.Status, float64]{
		{"yaosu_scanner_pending_events", "Events on disk that NATS has not acknowledged.", func(s scanner.Status) float64 { return float64(s.Pending) }},
		{"yaosu_scanner_oldest_timestamp_seconds", "When the oldest of them was stored, 0 when none waits.", func(s scanner.Status) float64 { return unixSeconds(s.Oldest) }},
		{"yaosu_scanner_spool_bytes", "Bytes of the spool's files.", func(s scanner.Status) float64 { return float64(s.Bytes) }},
		{"yaosu_scanner_spool_limit_bytes", "Bytes at which nothing new is taken.", func(s scanner.Status) float64 { return float64(s.MaxBytes) }},
		{"yaosu_scanner_set_aside_events", "Events that NATS will never take, in set-aside.ndjson.", func(s scanner.Status) float64 { return float64(s.SetAside) }},
		{"yaosu_scanner_connected", "1 while NATS is connected.", func(s scanner.Status) float64 { return oneIf(s.Connected) }},
	})
	counters(c, s.Status, []measure[scanner.Status, uint64]{
		{"yaosu_scanner_sent_events_total", "Events that NATS acknowledged.", func(s scanner.Status) uint64 { return uint64(s.Drained) }},
	})
}

func (c *counted) ingest(metrics *ingest.Metrics) {
	counters(c, metrics.Snapshot, []measure[ingest.Counts, uint64]{
		{"yaosu_ingest_read_total", "Messages read, those read again too.", func(c ingest.Counts) uint64 { return c.Read }},
		{"yaosu_ingest_messages_total", "Messages stored to their end.", func(c ingest.Counts) uint64 { return c.Messages }},
		{"yaosu_ingest_events_total", "Events stored in the table.", func(c ingest.Counts) uint64 { return c.Events }},
		{"yaosu_ingest_rows_total", "Rows of these events.", func(c ingest.Counts) uint64 { return c.Rows }},
		{"yaosu_ingest_rejected_total", "Events refused.", func(c ingest.Counts) uint64 { return c.Rejected }},
		{"yaosu_ingest_unknown_fields_total", "Fields that are not in the contract, left out.", func(c ingest.Counts) uint64 { return c.Unknown }},
		{"yaosu_ingest_inserts_total", "Blocks that ClickHouse took.", func(c ingest.Counts) uint64 { return c.Inserts }},
		{"yaosu_ingest_retries_total", "Inserts, publishes and ledger writes tried again.", func(c ingest.Counts) uint64 { return c.Retries }},
		{"yaosu_ingest_rewinds_total", "Times a stretch was read again.", func(c ingest.Counts) uint64 { return c.Rewinds }},
		{"yaosu_ingest_adopted_total", "Stretches taken over from ingesters that were gone.", func(c ingest.Counts) uint64 { return c.Adopted }},
		{"yaosu_ingest_lost_total", "Batches dropped as another ingester had taken the stretch over.", func(c ingest.Counts) uint64 { return c.Lost }},
	})
	gauges(c, metrics.Snapshot, []measure[ingest.Counts, float64]{
		{"yaosu_ingest_waiting_messages", "Messages of the stream that are not in the table yet: the lag.", func(c ingest.Counts) float64 { return float64(c.Waiting) }},
		{"yaosu_ingest_stored_sequence", "Sequence up to which all is in the table.", func(c ingest.Counts) float64 { return float64(c.Stored) }},
		{"yaosu_ingest_last_received_timestamp_seconds", "When the stream took the newest message that is stored, 0 before the first.", func(c ingest.Counts) float64 { return unixSeconds(c.LastReceived) }},
	})
}

func (c *counted) detect(metrics *detect.Metrics) {
	counters(c, metrics.Snapshot, []measure[detect.Counts, uint64]{
		{"yaosu_detect_passes_total", "Passes made, those that failed in part too.", func(c detect.Counts) uint64 { return c.Passes }},
		{"yaosu_detect_passes_failed_total", "Passes with an error.", func(c detect.Counts) uint64 { return c.Failed }},
		{"yaosu_detect_arrivals_total", "Rows of scans that came in.", func(c detect.Counts) uint64 { return c.Arrivals }},
		{"yaosu_detect_codes_total", "Codes whose lives were looked at.", func(c detect.Counts) uint64 { return c.Codes }},
		{"yaosu_detect_suspects_new_total", "Suspects found.", func(c detect.Counts) uint64 { return c.New }},
		{"yaosu_detect_suspects_changed_total", "Suspects that changed.", func(c detect.Counts) uint64 { return c.Changed }},
		{"yaosu_detect_suspects_explained_total", "Suspects that later events explained.", func(c detect.Counts) uint64 { return c.Explained }},
		{"yaosu_detect_read_rows_total", "Rows that ClickHouse read meanwhile.", func(c detect.Counts) uint64 { return c.ReadRows }},
		{"yaosu_detect_read_bytes_total", "Bytes that ClickHouse read meanwhile, uncompressed.", func(c detect.Counts) uint64 { return c.ReadBytes }},
	})
	gauges(c, metrics.Snapshot, []measure[detect.Counts, float64]{
		{"yaosu_detect_last_pass_seconds", "How long the newest pass took.", func(c detect.Counts) float64 { return c.LastTook.Seconds() }},
		{"yaosu_detect_last_pass_timestamp_seconds", "When it ended, 0 before the first.", func(c detect.Counts) float64 { return unixSeconds(c.LastEnded) }},
	})
}

func (c *counted) check(metrics *check.Metrics) {
	counters(c, metrics.Snapshot, []measure[check.Counts, uint64]{
		{"yaosu_check_checks_total", "Checks answered.", func(c check.Counts) uint64 { return c.Checks }},
		{"yaosu_check_codes_total", "Codes they asked about.", func(c check.Counts) uint64 { return c.Codes }},
		{"yaosu_check_stops_total", "Codes that must not be settled.", func(c check.Counts) uint64 { return c.Stops }},
		{"yaosu_check_warns_total", "Codes that were answered with a warning.", func(c check.Counts) uint64 { return c.Warns }},
		{"yaosu_check_degraded_total", "Answers for which not everything could be asked.", func(c check.Counts) uint64 { return c.Degraded }},
		{"yaosu_check_refused_total", "Requests that were none.", func(c check.Counts) uint64 { return c.Refused }},
		{"yaosu_check_events_total", "Events of the stream that were read.", func(c check.Counts) uint64 { return c.Events }},
		{"yaosu_check_rebuilds_total", "Times the index was made anew from the table.", func(c check.Counts) uint64 { return c.Rebuilds }},
	})
	gauges(c, metrics.Snapshot, []measure[check.Counts, float64]{
		{"yaosu_check_ready", "1 while all that is known is in the index, else answers are degraded.", func(c check.Counts) float64 { return oneIf(c.Ready) }},
		{"yaosu_check_uploads", "Uploads of sales and returns in the index.", func(c check.Counts) float64 { return float64(c.Uploads) }},
		{"yaosu_check_files", "Files of the index.", func(c check.Counts) float64 { return float64(c.Runs) }},
		{"yaosu_check_memory_bytes", "Memory the index takes, about.", func(c check.Counts) float64 { return float64(c.Memory) }},
		{"yaosu_check_disk_bytes", "Bytes of its files.", func(c check.Counts) float64 { return float64(c.Disk) }},
		{"yaosu_check_applied_sequence", "Sequence of the stream up to which the index knows everything.", func(c check.Counts) float64 { return float64(c.Applied) }},
		{"yaosu_check_behind_messages", "Messages of the stream that it does not know yet.", func(c check.Counts) float64 { return float64(c.Behind) }},
	})
	c.registry.MustRegister(checkTook{metrics, prometheus.NewDesc("yaosu_check_seconds", "Time a check took, without the way to it.", nil, nil)})
}

// checkTook is the histogram that check keeps itself.
type checkTook struct {
	metrics *check.Metrics
	desc    *prometheus.Desc
}

func (t checkTook) Describe(to chan<- *prometheus.Desc) { to <- t.desc }

func (t checkTook) Collect(to chan<- prometheus.Metric) {
	counts := t.metrics.Snapshot()
	buckets, all := map[float64]uint64{}, uint64(0)
	for _, b := range counts.Took {
		if b.UpTo > 0 {
			buckets[b.UpTo.Seconds()] = b.Count
		}
		all = b.Count // of the last, which has no bound
	}
	to <- prometheus.MustNewConstHistogram(t.desc, all, counts.TookSum.Seconds(), buckets)
}

// filter is of who makes filters.
func (c *counted) filter(metrics *filter.BuildMetrics) {
	counters(c, metrics.Snapshot, []measure[filter.BuildCounts, uint64]{
		{"yaosu_filter_builds_total", "Versions of the filter of settled codes that were made.", func(c filter.BuildCounts) uint64 { return c.Builds }},
		{"yaosu_filter_builds_failed_total", "Versions that could not be made.", func(c filter.BuildCounts) uint64 { return c.Failed }},
		{"yaosu_filter_builds_skipped_total", "Times too little had changed for a new version.", func(c filter.BuildCounts) uint64 { return c.Skipped }},
		{"yaosu_filter_parts_total", "Parts that were made.", func(c filter.BuildCounts) uint64 { return c.Parts }},
	})
	gauges(c, metrics.Snapshot, []measure[filter.BuildCounts, float64]{
		{"yaosu_filter_codes", "Codes in the filter.", func(c filter.BuildCounts) float64 { return float64(c.Codes) }},
		{"yaosu_filter_bytes", "Bytes of the filter.", func(c filter.BuildCounts) float64 { return float64(c.Bytes) }},
		{"yaosu_filter_layers", "Layers of the filter.", func(c filter.BuildCounts) float64 { return float64(c.Layers) }},
		{"yaosu_filter_as_of_timestamp_seconds", "Up to when it has everything, 0 before the first.", func(c filter.BuildCounts) float64 { return unixSeconds(c.AsOf) }},
		{"yaosu_filter_build_seconds", "How long the newest version took, rests included.", func(c filter.BuildCounts) float64 { return c.Took.Seconds() }},
		{"yaosu_filter_build_work_seconds", "How long of that was work.", func(c filter.BuildCounts) float64 { return c.Worked.Seconds() }},
	})
}

// fetched is of an agent that fetches one.
func (c *counted) fetched(metrics *filter.FetchMetrics) {
	counters(c, metrics.Snapshot, []measure[filter.FetchCounts, uint64]{
		{"yaosu_scanner_filter_fetches_total", "Times a newer filter was asked for.", func(c filter.FetchCounts) uint64 { return c.Fetches }},
		{"yaosu_scanner_filter_fetches_failed_total", "Times that failed.", func(c filter.FetchCounts) uint64 { return c.Failed }},
		{"yaosu_scanner_filter_parts_total", "Parts that were fetched.", func(c filter.FetchCounts) uint64 { return c.Parts }},
		{"yaosu_scanner_filter_parts_resumed_total", "Of them those that were gone on with.", func(c filter.FetchCounts) uint64 { return c.Resumed }},
		{"yaosu_scanner_filter_parts_damaged_total", "Parts that came damaged and were thrown away.", func(c filter.FetchCounts) uint64 { return c.Damaged }},
		{"yaosu_scanner_filter_bytes_total", "Bytes of parts that were fetched.", func(c filter.FetchCounts) uint64 { return c.Bytes }},
	})
	gauges(c, metrics.Snapshot, []measure[filter.FetchCounts, float64]{
		{"yaosu_scanner_filter_codes", "Codes in the filter that is here.", func(c filter.FetchCounts) float64 { return float64(c.Codes) }},
		{"yaosu_scanner_filter_as_of_timestamp_seconds", "Up to when it has everything, 0 when there is none.", func(c filter.FetchCounts) float64 { return unixSeconds(c.AsOf) }},
		{"yaosu_scanner_filter_asked_timestamp_seconds", "When it was last known to be the newest.", func(c filter.FetchCounts) float64 { return unixSeconds(c.Asked) }},
	})
}

// agent is of one that answers checks by itself.
func (c *counted) agent(a *offline.Agent) {
	for word, answer := range map[string]filter.Answer{"perhaps": filter.Perhaps, "absent": filter.Absent, "unknown": filter.Unknown} {
		c.registry.MustRegister(prometheus.NewCounterFunc(prometheus.CounterOpts{
			Name: "yaosu_scanner_offline_codes_total", Help: "Codes of checks that were answered here, by what the filter said.", ConstLabels: prometheus.Labels{"answer": word}},
			func() float64 { return float64(a.Answered(answer)) }))
	}
}

func (c *counted) engine(e *local.Engine) {
	counters(c, e.Restarts, []measure[int, uint64]{
		{"yaosu_local_engine_restarts_total", "Times the embedded ClickHouse died and was started again.", func(n int) uint64 { return uint64(n) }},
	})
}

func oneIf(yes bool) float64 {
	if yes {
		return 1
	}
	return 0
}

// unixSeconds is 0 for a moment that never was.
func unixSeconds(t time.Time) float64 {
	if t.IsZero() {
		return 0
	}
	return float64(t.UnixNano()) / 1e9
}

// Package town makes up small towns: honest trade with its innocent repeats,
// and planted fraud of which every case is known.
//
// It promises the same town for the same seed and size, events that keep to
// version 1, and that what stands in Planted is all there is to find by the
// detectors it names, at their usual thresholds. It judges nothing itself and
// imports no detector.
package town

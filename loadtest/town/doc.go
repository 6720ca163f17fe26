// Package town makes up small towns: honest trade with its innocent repeats,
// and planted fraud of which every case is known.
//
// It promises the same town for the same seed and size, events that keep to
// version 1, and that Planted and Accused together are all there is to find by
// the detectors' words at their usual thresholds, Accused in honest life. Honest
// life is told as it is: nothing in it is made smaller so that a detector stays
// silent. The town knows what its stories do and keeps a few sums (book.go); it
// reads no event again and imports no detector.
package town

// Package fault names the points at which banger-root can be made to fail or to
// die, in builds with the tag bangerfault only: tests build such a program. In
// every other build a point is an empty function, and nothing selects one.
package fault

package ops

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"
)

// A feed is an agent with three changes of each index up to 5, that breaks off when it is told to.
type feed struct {
	*fakeAgent
	breaks atomic.Int32 // after so many changes of a watch; 0: never
	stays  atomic.Bool  // it refuses every watch
}

func (f *feed) Watch(ctx context.Context, _ string, from *uint64, emit func(Event) error, idle func(uint64) error) error {
	if f.stays.Load() {
		return Errorf(Retry, "not ready")
	}
	at := uint64(2)
	if from != nil {
		at = *from
	}
	if err := idle(at); err != nil {
		return err
	}
	count := int32(0)
	for index := at + 1; index <= 5; index++ {
		for i := range 3 {
			if b := f.breaks.Load(); b > 0 && count == b {
				return Errorf(Retry, "the agent stops")
			}
			if err := emit(Event{Index: index, Key: fmt.Appendf(nil, "%d.%d", index, i), HasNew: true}); err != nil {
				return err
			}
			count++
		}
	}
	<-ctx.Done()
	return context.Cause(ctx)
}

// TestClient_WatchGoesOn ensures that a watch whose agent breaks off, in the middle of the changes of one index too,
// goes on without a change missing or coming twice, and that it says where to go on when the agent stays away.
func TestClient_WatchGoesOn(t *testing.T) {
	var want []string
	for index := 3; index <= 5; index++ {
		for i := range 3 {
			want = append(want, fmt.Sprintf("%d.%d", index, i))
		}
	}
	for breaks := int32(4); breaks <= 6; breaks++ {
		f := &feed{fakeAgent: newFake()}
		f.breaks.Store(breaks)
		c := serve(t, f, nil)
		errEnough := errors.New("enough")
		var seen []string
		lost := 0
		err := c.Watch(t.Context(), "t", nil, func(e Event) error {
			if seen = append(seen, string(e.Key)); len(seen) == len(want) {
				return errEnough
			}
			return nil
		}, func(error) { lost++ })
		if !errors.Is(err, errEnough) || !slices.Equal(seen, want) || lost == 0 {
			t.Errorf("broken off after %d: %v, lost %d times: %q", breaks, err, lost, seen)
		}
	}
	f := &feed{fakeAgent: newFake()}
	f.breaks.Store(4)
	c := serve(t, f, nil).WithTimeout(300 * time.Millisecond)
	err := c.Watch(t.Context(), "t", nil, func(Event) error { return nil }, func(error) { f.stays.Store(true) })
	var e *Error
	if !errors.As(err, &e) || e.Kind != Retry || !strings.HasSuffix(e.Next, "postraft watch t --from 3") {
		t.Errorf("an agent that stays away: %v", err)
	}
}

// TestClient_WatchEnds ensures that a watch that whoever watches ends is no failure of the agent.
func TestClient_WatchEnds(t *testing.T) {
	c := serve(t, &feed{fakeAgent: newFake()}, nil)
	ctx, cancel := context.WithCancel(t.Context())
	if err := c.Watch(ctx, "t", nil, func(Event) error { cancel(); return nil }, func(err error) { t.Errorf("lost: %v", err) }); err != nil {
		t.Errorf("it ended with %v", err)
	}
}

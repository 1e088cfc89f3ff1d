package chaos

import (
	"context"
	"fmt"
	"math"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/anishathalye/porcupine"
)

const (
	linKeys  = 6
	linCheck = 20 * time.Second // to check one history
)

// What is asked for in a linearizability history.
type linInput struct {
	kind  string // get, put, delete
	key   string
	value string
}

// linOutput is what was answered: the value of a get, and whether there was one.
type linOutput struct {
	unknown bool
	found   bool
	value   string
}

// linModel is a key with a value or none; "" is none.
var linModel = porcupine.Model{
	Partition: func(all []porcupine.Operation) [][]porcupine.Operation {
		byKey := map[string][]porcupine.Operation{}
		for _, o := range all {
			key := o.Input.(linInput).key
			byKey[key] = append(byKey[key], o)
		}
		var parts [][]porcupine.Operation
		for _, part := range byKey {
			parts = append(parts, part)
		}
		return parts
	},
	Init: func() any { return "" },
	Step: func(state, input, output any) (bool, any) {
		in, out, now := input.(linInput), output.(linOutput), state.(string)
		switch in.kind {
		case "put":
			return true, in.value
		case "delete":
			return out.unknown || out.found == (now != ""), ""
		default:
			return out.found == (now != "") && out.value == now, now
		}
	},
	DescribeOperation: func(input, output any) string {
		in, out := input.(linInput), output.(linOutput)
		switch {
		case out.unknown:
			return fmt.Sprintf("%s %s %s: unknown", in.kind, in.key, in.value)
		case in.kind == "put":
			return fmt.Sprintf("put %s %s", in.key, in.value)
		default:
			return fmt.Sprintf("%s %s: %t %s", in.kind, in.key, out.found, out.value)
		}
	},
}

// A history is what the workers asked of some keys since the last check, and what they were told. Each check
// begins new keys, so that what is unknown of the old ones does not pile up.
type history struct {
	record *record

	mu    sync.Mutex
	epoch int
	seq   int
	all   []porcupine.Operation
}

func newHistory(r *record) *history { return &history{record: r} }

// begin returns a key and a value that is new.
func (h *history) begin() (key, value string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.seq++
	return h.key(rand.IntN(linKeys)), fmt.Sprintf("v%d", h.seq)
}

func (h *history) key(i int) string { return fmt.Sprintf("lin-%d-%d", h.epoch, i) }

func (h *history) add(o porcupine.Operation) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.all = append(h.all, o)
}

// contend reads and writes keys that others read and write, through all nodes.
func (l *load) contend(ctx context.Context, id int) {
	all := l.s.sessions(fmt.Sprintf("lin%d", id))
	for _, c := range all {
		defer c.close()
	}
	h := l.lin
	l.each(ctx, 100*time.Millisecond, func() {
		c := all[rand.IntN(len(all))]
		o := porcupine.Operation{ClientId: id}
		key, value := h.begin()
		in, result := linInput{kind: "get", key: key}, linOutput{}
		var out outcome
		o.Call = int64(h.record.now())
		switch rand.IntN(10) {
		default:
			result.value, out = c.consult(ctx, linTable, key)
			result.found = out == done
		case 0, 1:
			in.kind, in.value = "put", value
			out = c.update(linTable, key, value)
		case 2, 3:
			in.kind, in.value = "put", value
			out = c.put(ctx, linTable, key, value)
		case 4:
			in.kind = "delete"
			out = c.remove(linTable, key)
			result.found = out == done
		case 5:
			in.kind = "delete"
			out = c.erase(ctx, linTable, key)
			result.found = out == done
		}
		o.Return = int64(h.record.now())
		switch out {
		case undone:
			return
		case unsure:
			o.Return, result = math.MaxInt64, linOutput{unknown: true}
		}
		o.Input, o.Output = in, result
		h.add(o)
	})
}

// check checks what was collected, and begins anew. Nothing may be under way.
func (h *history) check() {
	h.mu.Lock()
	all := h.all
	h.all = nil
	h.epoch++
	h.mu.Unlock()
	for _, part := range linModel.Partition(all) {
		key := part[0].Input.(linInput).key
		h.record.checks.Add(int64(len(part)))
		switch porcupine.CheckOperationsTimeout(linModel, part, linCheck) {
		case porcupine.Illegal:
			h.record.violate("I2", linTable, key, "the operations on %s cannot have happened one after the other", key)
		case porcupine.Unknown:
			h.record.mu.Lock()
			h.record.unknown++
			h.record.mu.Unlock()
		}
	}
}

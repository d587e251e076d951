package graph

import (
	"cmp"
	"slices"
)

// The layout is the layered one of Sugiyama, Tagawa and Toda (1981): break cycles, put
// every item a layer below what feeds it, order the layers so that few lines cross, then
// move items towards their neighbours. A group is laid out by itself first and is one
// item of the level around it, so boxes never overlap.

const (
	gapX, gapY   = 28.0, 26.0
	groupPad     = 18.0
	groupHeading = 26.0
	sweeps       = 8
	// maxBends bounds the layout of one level: beyond it, long lines have none.
	maxBends = 20_000
)

// item is a box on one level: a vertex, a group, or a bend of a line (with its label).
type item struct {
	w, h, x, y float64 // x, y: the upper left corner, on its level
	layer      int
	up, down   []*item
	order      float64
	// top and bottom of the layer, between which a line goes straight down at a bend.
	top, bottom float64
}

// link is a line between two items of one level.
type link struct {
	from, to *item
	label    *item // where the label stands
	bends    []*item
	reversed bool
}

// arrange places the items of one level and gives its size.
func arrange(items []*item, links []*link) (w, h float64) {
	breakCycles(items, links)
	assignLayers(items, links)
	layers := make([][]*item, 0)
	put := func(it *item) {
		for len(layers) <= it.layer {
			layers = append(layers, nil)
		}
		layers[it.layer] = append(layers[it.layer], it)
	}
	for _, it := range items {
		it.up, it.down = nil, nil
		put(it)
	}
	total := 0
	for _, l := range links {
		above, below := l.ends()
		total += below.layer - above.layer
	}
	for _, l := range links {
		above, below := l.ends()
		if total > maxBends && below.layer-above.layer > 2 {
			continue // straight through, or there would be a bend per line and layer
		}
		prev := above
		middle := (above.layer + below.layer) / 2
		for layer := above.layer + 1; layer < below.layer; layer++ {
			bend := &item{layer: layer, w: 6}
			if layer == middle && l.label != nil {
				bend = l.label
				bend.layer = layer
			}
			put(bend)
			l.bends = append(l.bends, bend)
			prev.down, bend.up = append(prev.down, bend), append(bend.up, prev)
			prev = bend
		}
		prev.down, below.up = append(prev.down, below), append(below.up, prev)
	}
	orderLayers(layers)
	w, h = place(layers)
	for _, l := range links {
		if len(l.bends) == 0 && l.label != nil {
			l.label.x = (l.from.x+l.from.w/2+l.to.x+l.to.w/2)/2 - l.label.w/2
			l.label.y = (l.from.y+l.from.h/2+l.to.y+l.to.h/2)/2 - l.label.h/2
		}
	}
	return w, h
}

// ends gives the upper and the lower end.
func (l *link) ends() (above, below *item) {
	if l.reversed {
		return l.to, l.from
	}
	return l.from, l.to
}

// breakCycles turns around links so that no circle is left, and few of them: the greedy
// order of Eades, Lin and Smyth (1993). What feeds more than it is fed by comes first.
func breakCycles(items []*item, links []*link) {
	type degree struct{ in, out int }
	deg := map[*item]*degree{}
	neighbours := map[*item][]*link{}
	for _, it := range items {
		deg[it] = &degree{}
	}
	for _, l := range links {
		deg[l.from].out++
		deg[l.to].in++
		neighbours[l.from] = append(neighbours[l.from], l)
		neighbours[l.to] = append(neighbours[l.to], l)
	}
	place := map[*item]int{}
	first, last := 0, len(items)
	remove := func(it *item, at int) {
		place[it] = at
		for _, l := range neighbours[it] {
			deg[l.from].out--
			deg[l.to].in--
		}
	}
	left := slices.Clone(items)
	for len(left) > 0 {
		best, took := 0, false
		for i, it := range left {
			switch d := deg[it]; {
			case d.out <= 0 && d.in > 0:
				last--
				remove(it, last)
				took = true
			case d.in <= 0:
				remove(it, first)
				first++
				took = true
			default:
				if b := deg[left[best]]; d.out-d.in > b.out-b.in {
					best = i
				}
				continue
			}
			left = slices.Delete(left, i, i+1)
			break
		}
		if !took {
			remove(left[best], first)
			first++
			left = slices.Delete(left, best, best+1)
		}
	}
	for _, l := range links {
		l.reversed = place[l.from] > place[l.to]
	}
}

// assignLayers puts every item two layers below the lowest that feeds it: the layer
// between is for the labels. Items without feeders move down to what they feed.
func assignLayers(items []*item, links []*link) {
	waiting := map[*item]int{}
	out := map[*item][]*item{}
	for _, l := range links {
		above, below := l.ends()
		waiting[below]++
		out[above] = append(out[above], below)
	}
	var ready []*item
	for _, it := range items {
		it.layer = 0
		if waiting[it] == 0 {
			ready = append(ready, it)
		}
	}
	roots := slices.Clone(ready)
	for len(ready) > 0 {
		it := ready[0]
		ready = ready[1:]
		for _, below := range out[it] {
			below.layer = max(below.layer, it.layer+2)
			if waiting[below]--; waiting[below] == 0 {
				ready = append(ready, below)
			}
		}
	}
	for _, it := range roots {
		for i, below := range out[it] {
			if i == 0 || below.layer-2 < it.layer {
				it.layer = below.layer - 2
			}
		}
	}
}

// orderLayers sorts every layer by where its neighbours stand, down and up in turns.
func orderLayers(layers [][]*item) {
	for _, layer := range layers {
		for i, it := range layer {
			it.order = float64(i)
		}
	}
	sweep := func(layer []*item, neighbours func(*item) []*item) {
		for _, it := range layer {
			if list := neighbours(it); len(list) > 0 {
				sum := 0.0
				for _, n := range list {
					sum += n.order
				}
				it.order = sum / float64(len(list))
			}
		}
		slices.SortStableFunc(layer, func(a, b *item) int { return cmp.Compare(a.order, b.order) })
		for i, it := range layer {
			it.order = float64(i) * 100 / float64(max(1, len(layer)-1))
		}
	}
	for range sweeps {
		for _, layer := range layers {
			sweep(layer, func(it *item) []*item { return it.up })
		}
		for _, layer := range slices.Backward(layers) {
			sweep(layer, func(it *item) []*item { return it.down })
		}
	}
}

// place gives every item its place: layers one below the other, and in a layer as near
// to the neighbours as the order allows.
func place(layers [][]*item) (w, h float64) {
	for _, layer := range layers {
		tallest, x := 0.0, 0.0
		for _, it := range layer {
			tallest = max(tallest, it.h)
			it.x = x
			x += it.w + gapX
		}
		for _, it := range layer {
			it.y = h + (tallest-it.h)/2
			it.top, it.bottom = h, h+tallest
		}
		h += tallest + gapY
	}
	h -= gapY
	for i := range sweeps {
		if i%2 == 0 {
			for _, layer := range layers {
				settle(layer, func(it *item) []*item { return it.up })
			}
		} else {
			for _, layer := range slices.Backward(layers) {
				settle(layer, func(it *item) []*item { return it.down })
			}
		}
	}
	for _, layer := range layers {
		settle(layer, func(it *item) []*item { return slices.Concat(it.up, it.down) })
	}
	left := 0.0
	for i, layer := range layers {
		if len(layer) > 0 && (i == 0 || layer[0].x < left) {
			left = layer[0].x
		}
	}
	for _, layer := range layers {
		for _, it := range layer {
			it.x -= left
			w = max(w, it.x+it.w)
		}
	}
	return w, h
}

// settle moves the items of a layer towards the mean of their neighbours; those that
// would overlap move as a block (isotonic regression by pooling).
func settle(layer []*item, neighbours func(*item) []*item) {
	type block struct{ sum, n float64 }
	var blocks []block
	var sizes []int
	offset := 0.0
	offsets := make([]float64, len(layer))
	for i, it := range layer {
		want := it.x
		if list := neighbours(it); len(list) > 0 {
			want = -it.w / 2
			for _, n := range list {
				want += (n.x + n.w/2) / float64(len(list))
			}
		}
		offsets[i] = offset
		blocks, sizes = append(blocks, block{want - offset, 1}), append(sizes, 1)
		offset += it.w + gapX
		for k := len(blocks) - 1; k > 0 && blocks[k-1].sum/blocks[k-1].n > blocks[k].sum/blocks[k].n; k-- {
			blocks[k-1] = block{blocks[k-1].sum + blocks[k].sum, blocks[k-1].n + blocks[k].n}
			sizes[k-1] += sizes[k]
			blocks, sizes = blocks[:k], sizes[:k]
		}
	}
	i := 0
	for k, b := range blocks {
		for range sizes[k] {
			layer[i].x = b.sum/b.n + offsets[i]
			i++
		}
	}
}

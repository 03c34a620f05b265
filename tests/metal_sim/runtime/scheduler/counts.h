// Counts of what threads do, in all and the most of one.
#pragma once
#include "worker.h"

namespace metal_sim {
namespace {

void loaded(const void* from) {
  if (!running) return;
  const uint64_t address = reinterpret_cast<uint64_t>(from);
  for (uint64_t i = 0; i < dispatch->device_buffers; i++) {
    const Region& buffer = dispatch->device[i];
    if (address < buffer.begin || address >= buffer.end) continue;
    dispatch->device_loads++;
    if (++running->loads > dispatch->lane_loads) dispatch->lane_loads = running->loads;
    return;
  }
}

void count_product(Worker& first_lane) {
  dispatch->matrix_products++;
  if (++first_lane.products > dispatch->simdgroup_products) {
    dispatch->simdgroup_products = first_lane.products;
  }
}

}  // namespace
}  // namespace metal_sim

// What concerns the library as a whole.
#include "common.h"

#ifndef GEODISTILL_DIGEST
#define GEODISTILL_DIGEST 0u
#endif

namespace geodistill {

Team team = nullptr;

// The checksum of the sources the library was built from: kernels/digest.py computes it.
API uint32_t gd_digest() { return GEODISTILL_DIGEST; }

API void gd_use_team(Team found) { team = found; }

}  // namespace geodistill

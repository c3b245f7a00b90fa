// Weights of up to 16 handles before they are normalised, from distances: the likeness of each site
// becomes its group's through the kernel, groups are mixed by the inverse of the kernel's matrix,
// and handles of one group share what it gets by how near they are along the surface.
precision highp float;
precision highp int;
precision highp usampler2DArray;

uniform usampler2DArray rows; // 65535ths of the longest distance
uniform sampler2D sites; // layer of its likeness, of its path or -1, last of its group, longest path
uniform sampler2D matrix; // [group, block of four handles]
uniform sampler2D handles; // first site of its group, how many of them, its own; 1 site: all is its
uniform int site_count;
uniform int handle_count;
uniform int first_handle;
uniform float radius;
uniform float power;
uniform bool published;

layout(location = 0) out vec4 out0;
layout(location = 1) out vec4 out1;
layout(location = 2) out vec4 out2;
layout(location = 3) out vec4 out3;

const float OPPOSITE = 2.0;

float distance_at(ivec2 at, int layer) {
  return float(texelFetch(rows, ivec3(at, layer), 0).r) / 65535.0;
}

float kernel(float away) {
  float r = pow(min(away / radius, 1.0), power);
  float rest = (1.0 - r) * (1.0 - r);
  return rest * rest * (4.0 * r + 1.0);
}

float nearness(ivec2 at, int site, float longest) {
  vec4 info = texelFetch(sites, ivec2(site, 0), 0);
  float away = distance_at(at, int(info.y)) * info.w / longest;
  return 1.0 / max(away * away, 1e-18);
}

// The part of a handle in its group.
float share(ivec2 at, int handle) {
  vec4 info = texelFetch(handles, ivec2(handle, 0), 0);
  int first = int(info.x), count = int(info.y);
  if (count < 2) return 1.0;
  float longest = 1e-30;
  for (int k = first; k < first + count; k++)
    longest = max(longest, texelFetch(sites, ivec2(k, 0), 0).w);
  float sum = 0.0;
  for (int k = first; k < first + count; k++) sum += nearness(at, k, longest);
  return nearness(at, int(info.z), longest) / sum;
}

// max(1 - distance, 0), less the most that an anchor has.
vec4 as_published(ivec2 at, int block) {
  float held = 0.0;
  for (int k = 0; k < site_count; k++) {
    vec4 info = texelFetch(sites, ivec2(k, 0), 0);
    if (info.z < 0.0) held = max(held, 1.0 - OPPOSITE * distance_at(at, int(info.x)));
  }
  vec4 made = vec4(0.0);
  for (int k = 0; k < 4; k++) {
    int handle = 4 * block + k;
    if (handle >= handle_count) break;
    int own = int(texelFetch(handles, ivec2(handle, 0), 0).z);
    int layer = int(texelFetch(sites, ivec2(own, 0), 0).x);
    made[k] = max(max(1.0 - OPPOSITE * distance_at(at, layer), 0.0) - held, 0.0);
  }
  return made;
}

void main() {
  ivec2 at = ivec2(gl_FragCoord.xy);
  int block = first_handle / 4;
  vec4 made[4];
  if (published) {
    for (int b = 0; b < 4; b++) made[b] = as_published(at, block + b);
  } else {
    for (int b = 0; b < 4; b++) made[b] = vec4(0.0);
    float most = 0.0;
    int group = 0;
    for (int k = 0; k < site_count; k++) {
      vec4 info = texelFetch(sites, ivec2(k, 0), 0);
      most = max(most, kernel(OPPOSITE * distance_at(at, int(info.x))));
      if (info.z == 0.0) continue;
      for (int b = 0; b < 4; b++)
        if (4 * (block + b) < handle_count)
          made[b] += texelFetch(matrix, ivec2(group, block + b), 0) * most;
      most = 0.0;
      group++;
    }
    for (int b = 0; b < 4; b++) {
      made[b] = clamp(made[b], 0.0, 1.0);
      for (int k = 0; k < 4; k++) {
        int handle = 4 * (block + b) + k;
        if (handle < handle_count && made[b][k] > 0.0) made[b][k] *= share(at, handle);
      }
    }
  }
  out0 = made[0];
  out1 = made[1];
  out2 = made[2];
  out3 = made[3];
}

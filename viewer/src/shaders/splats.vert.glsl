// A Gaussian becomes the ellipse that it covers in the picture, as geodistill/render/splats.py
// projects it (Zwicker et al., "EWA Splatting", 2001; Kerbl et al., 2023).
precision highp float;
precision highp int;
precision highp sampler2DArray;

uniform sampler2D means;          // xyz, opacity
uniform sampler2D rotations;      // unit quaternions w, x, y, z
uniform sampler2D scales;         // standard deviations
uniform sampler2DArray harmonics; // layer j: coefficients 4 j ... of all splats, rgb rgb rgb ...
uniform mat4 cam_from_world;      // axes x right, y down, z forward
uniform vec3 eye;
uniform vec2 size_px;
uniform float focal_px;
uniform float magnification; // of the standard deviations
uniform int degree;

in vec2 corner;
in uint element;

flat out vec4 splat;    // colour, opacity
flat out vec4 place_px; // mean in the picture, y upward; direction of the longer axis
flat out vec2 precisions; // 1 / standard deviation along the axes

const float LOW_PASS_PX2 = 0.3;
const float BEYOND = 0.3;
const float MIN_ALPHA = 1.0 / 255.0;
const float MARGIN_PX = 0.1; // GPUs place corners on a grid of sixteenths of a pixel, or finer
const int ROW = 2048;

float coefficient(ivec2 texel, int index) {
  return texelFetch(harmonics, ivec3(texel, index >> 2), 0)[index & 3];
}

vec3 lobe(ivec2 texel, int k) {
  return vec3(coefficient(texel, 3 * k), coefficient(texel, 3 * k + 1), coefficient(texel, 3 * k + 2));
}

// The basis and order of geodistill/geometry/harmonics.py.
vec3 color_towards(ivec2 texel, vec3 d) {
  vec3 sum = vec3(0.5) + 0.28209479177387814 * lobe(texel, 0);
  if (degree < 1) return sum;
  float x = d.x, y = d.y, z = d.z;
  const float c1 = 0.4886025119029199;
  sum += -c1 * y * lobe(texel, 1) + c1 * z * lobe(texel, 2) - c1 * x * lobe(texel, 3);
  if (degree < 2) return sum;
  float xx = x * x, yy = y * y, zz = z * z;
  sum += 1.0925484305920792 * x * y * lobe(texel, 4);
  sum += -1.0925484305920792 * y * z * lobe(texel, 5);
  sum += 0.31539156525252005 * (2.0 * zz - xx - yy) * lobe(texel, 6);
  sum += -1.0925484305920792 * x * z * lobe(texel, 7);
  sum += 0.5462742152960396 * (xx - yy) * lobe(texel, 8);
  if (degree < 3) return sum;
  sum += -0.5900435899266435 * y * (3.0 * xx - yy) * lobe(texel, 9);
  sum += 2.890611442640554 * x * y * z * lobe(texel, 10);
  sum += -0.4570457994644658 * y * (4.0 * zz - xx - yy) * lobe(texel, 11);
  sum += 0.3731763325901154 * z * (2.0 * zz - 3.0 * xx - 3.0 * yy) * lobe(texel, 12);
  sum += -0.4570457994644658 * x * (4.0 * zz - xx - yy) * lobe(texel, 13);
  sum += 1.445305721320277 * z * (xx - yy) * lobe(texel, 14);
  sum += -0.5900435899266435 * x * (xx - 3.0 * yy) * lobe(texel, 15);
  return sum;
}

mat3 rotation(vec4 q) {
  float w = q.x, x = q.y, y = q.z, z = q.w;
  return mat3(
    1.0 - 2.0 * (y * y + z * z), 2.0 * (x * y + w * z), 2.0 * (x * z - w * y),
    2.0 * (x * y - w * z), 1.0 - 2.0 * (x * x + z * z), 2.0 * (y * z + w * x),
    2.0 * (x * z + w * y), 2.0 * (y * z - w * x), 1.0 - 2.0 * (x * x + y * y));
}

void main() {
  ivec2 texel = ivec2(int(element) % ROW, int(element) / ROW);
  vec4 mean = texelFetch(means, texel, 0);
  vec3 in_cam = (cam_from_world * vec4(mean.xyz, 1.0)).xyz;
  float reach = log(mean.w / MIN_ALPHA);
  gl_Position = vec4(2.0, 2.0, 2.0, 1.0);
  splat = place_px = vec4(0.0);
  precisions = vec2(0.0);
  if (in_cam.z <= 0.0 || reach <= 0.0) return;

  vec2 slopes = in_cam.xy / in_cam.z;
  vec2 half_px = 0.5 * size_px;
  vec2 most = (half_px + BEYOND * half_px) / focal_px;
  vec2 held = clamp(slopes, -most, most);
  float f = focal_px / in_cam.z;
  mat3 axes = mat3(cam_from_world) * rotation(texelFetch(rotations, texel, 0));
  vec3 sigma = magnification * texelFetch(scales, texel, 0).xyz;
  vec3 row_x = f * vec3(axes[0].x - held.x * axes[0].z, axes[1].x - held.x * axes[1].z,
    axes[2].x - held.x * axes[2].z) * sigma;
  vec3 row_y = f * vec3(axes[0].y - held.y * axes[0].z, axes[1].y - held.y * axes[1].z,
    axes[2].y - held.y * axes[2].z) * sigma;
  float a = dot(row_x, row_x) + LOW_PASS_PX2;
  float b = dot(row_x, row_y);
  float c = dot(row_y, row_y) + LOW_PASS_PX2;

  float middle = 0.5 * (a + c);
  float half_gap = length(vec2(0.5 * (a - c), b));
  float larger = middle + half_gap;
  float smaller = max((a * c - b * b) / larger, LOW_PASS_PX2); // as it is but for rounding
  // Of the two forms of the axis, the one that does not cancel.
  vec2 axis = a > c ? vec2(larger - c, b) : vec2(b, larger - a);
  axis = half_gap > 1e-7 * middle ? normalize(axis) : vec2(1.0, 0.0);
  axis.y = -axis.y; // upward from here on
  vec2 deviations = sqrt(vec2(larger, smaller));
  vec2 reach_px = corner * (sqrt(2.0 * reach) * deviations + MARGIN_PX);
  vec2 center_px = vec2(slopes.x, -slopes.y) * focal_px;
  vec2 corner_px = center_px + reach_px.x * axis + reach_px.y * vec2(-axis.y, axis.x);
  gl_Position = vec4(corner_px / half_px, 0.0, 1.0);
  place_px = vec4(center_px + half_px, axis);
  precisions = 1.0 / deviations;
  splat = vec4(max(color_towards(texel, normalize(mean.xyz - eye)), 0.0), mean.w);
}

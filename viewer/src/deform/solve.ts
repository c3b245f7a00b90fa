// Cardinal weights from likeness: which handles share a column, and the matrix that mixes the
// others. The same as geodistill.deform.weights.cardinal_weights, whose kernel this is.

export interface Kernel {
  radius: number;
  power: number;
}

/** What the sites of handles and anchors, in this order, are mixed with. */
export interface Mix {
  kernel: Kernel;
  /** Of each site. */
  groups: readonly number[];
  /** Rows of the inverse of the kernel's matrix of the groups, [groups x groups]. */
  inverse: Float64Array;
  size: number;
}

const COINCIDE = 0.05; // of the radius
const LEAST = 0.7; // of the radius
const DEFINITE = 0.02; // smallest eigenvalue

/** Wendland's (1 - r)^4 (4 r + 1) of r = (distance / radius)^power. */
export function weigh({ radius, power }: Kernel, distance: number): number {
  const r = Math.min(1, distance / radius) ** power;
  const rest = (1 - r) * (1 - r);
  return rest * rest * (4 * r + 1);
}

/** Smallest distance between unit features of two sites. */
export function siteDistance(
  one: readonly (readonly number[])[],
  two: readonly (readonly number[])[],
): number {
  let closest = -1;
  for (const a of one)
    for (const b of two) {
      let cosine = 0;
      for (let k = 0; k < a.length; k++) cosine += a[k]! * b[k]!;
      closest = Math.max(closest, cosine);
    }
  return Math.sqrt(Math.max(2 - 2 * closest, 0));
}

/** The mix of sites that lie `apart` [n x n] in feature space. */
export function solve(apart: Float64Array, n: number, kernel: Kernel): Mix {
  let limit = COINCIDE * kernel.radius;
  for (;;) {
    const groups = grouped(apart, n, limit);
    const size = Math.max(...groups) + 1;
    const gaps = new Float64Array(size * size).fill(Infinity);
    for (let i = 0; i < n; i++)
      for (let j = 0; j < n; j++) {
        const at = groups[i]! * size + groups[j]!;
        gaps[at] = Math.min(gaps[at]!, apart[i * n + j]!);
      }
    let solved = kernel;
    while (solved.radius > LEAST * kernel.radius) {
      const matrix = gaps.map((gap) => weigh(solved, gap));
      const inverse = definiteInverse(matrix, size);
      if (inverse) return { kernel: solved, groups, inverse, size };
      solved = { ...solved, radius: 0.9 * solved.radius };
    }
    // A narrower kernel would move next to nothing: the nearest two groups become one.
    limit = Infinity;
    for (let i = 0; i < size; i++)
      for (let j = 0; j < size; j++) if (i !== j) limit = Math.min(limit, gaps[i * size + j]!);
    limit *= 1 + Number.EPSILON;
  }
}

/** Connected groups of sites that are nearer than `limit`, numbered by their first site. */
function grouped(apart: Float64Array, n: number, limit: number): number[] {
  const groups = new Array<number>(n).fill(-1);
  let count = 0;
  for (let start = 0; start < n; start++) {
    if (groups[start] !== -1) continue;
    const waiting = [start];
    groups[start] = count;
    while (waiting.length) {
      const i = waiting.pop()!;
      for (let j = 0; j < n; j++)
        if (groups[j] === -1 && apart[i * n + j]! < limit) {
          groups[j] = count;
          waiting.push(j);
        }
    }
    count++;
  }
  return groups;
}

/** The inverse of a symmetric matrix whose eigenvalues are all large enough, else undefined. */
function definiteInverse(matrix: Float64Array, n: number): Float64Array | undefined {
  const shifted = matrix.slice();
  for (let k = 0; k < n; k++) shifted[k * n + k]! -= DEFINITE;
  if (!cholesky(shifted, n)) return undefined;
  const factor = cholesky(matrix, n)!;
  const inverse = new Float64Array(n * n);
  const column = new Float64Array(n);
  for (let c = 0; c < n; c++) {
    for (let i = 0; i < n; i++) {
      let sum = i === c ? 1 : 0;
      for (let k = 0; k < i; k++) sum -= factor[i * n + k]! * column[k]!;
      column[i] = sum / factor[i * n + i]!;
    }
    for (let i = n - 1; i >= 0; i--) {
      let sum = column[i]!;
      for (let k = i + 1; k < n; k++) sum -= factor[k * n + i]! * inverse[k * n + c]!;
      inverse[i * n + c] = sum / factor[i * n + i]!;
    }
  }
  return inverse;
}

/** The lower factor, or undefined where the matrix is not positive definite. */
function cholesky(matrix: Float64Array, n: number): Float64Array | undefined {
  const factor = new Float64Array(n * n);
  for (let i = 0; i < n; i++)
    for (let j = 0; j <= i; j++) {
      let sum = matrix[i * n + j]!;
      for (let k = 0; k < j; k++) sum -= factor[i * n + k]! * factor[j * n + k]!;
      if (i !== j) factor[i * n + j] = sum / factor[j * n + j]!;
      else if (sum > 0) factor[i * n + i] = Math.sqrt(sum);
      else return undefined;
    }
  return factor;
}
